//! BIRD and FRR: both nodes announce an address of `lo` by BGP, and a router deals connections to them.

use std::fmt::Write as _;
use std::process::Command;

use anyhow::Result;
use ingress_tests::host::{self, Host};
use ingress_tests::rig::{
    EDGE_V4, EDGE_V6, FAR_V4, FAR_V6, NODE2_V4, NODE2_V6, ROUTER_V4, ROUTER_V6, Rig, wait_until,
};

use super::scene::{Node, Scene, write};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn bird_announces_an_address_of_lo_and_withdraws_it_without_a_lost_request() -> Result<()> {
    announced_by(Speaker::Bird, "BIRD, router FRR")
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn frr_announces_an_address_of_lo_and_withdraws_it_without_a_lost_request() -> Result<()> {
    announced_by(Speaker::Frr, "FRR, router BIRD")
}

/// The program on the nodes; the router has the other one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Speaker {
    Bird,
    Frr,
}

fn announced_by(speaker: Speaker, name: &str) -> Result<()> {
    let mut scene = Scene::set("", &[])?;
    // By ports too, or a client would meet one node alone.
    for family in ["ipv4", "ipv6"] {
        let key = format!("net/{family}/fib_multipath_hash_policy");
        scene.rig.switch.sysctl(&key, "1")?;
    }
    match speaker {
        Speaker::Bird => start_frr(&mut scene.rig, None)?,
        Speaker::Frr => start_bird(&mut scene.rig, None)?,
    }
    for node in Node::BOTH {
        let host = node.host(&scene.rig);
        host.ip(&format!("addr add {VIP_V4}/32 dev lo"))?;
        host.ip(&format!("addr add {VIP_V6}/128 dev lo nodad"))?;
        match speaker {
            Speaker::Bird => start_bird(&mut scene.rig, Some(node))?,
            Speaker::Frr => start_frr(&mut scene.rig, Some(node))?,
        }
        watch(&mut scene, node, speaker)?;
    }
    let client: fn(&Rig) -> &Host = |rig| &rig.far;
    wait_until("both nodes to be next hops", || {
        Ok(next_hops(&scene.rig)? == [2, 2])
    })?;
    let at = [(VIP_V4, FAR_V4), (VIP_V6, FAR_V6)];
    scene.check(&Node::BOTH, &scene.rig.far, &at)?;

    let withdrawn =
        |scene: &Scene| wait_until("one next hop", || Ok(next_hops(&scene.rig)? == [1, 1]));
    scene.withdraw(client, &AT, name, withdrawn)?;
    scene.check(&[Node::Second], &scene.rig.far, &at)?;
    scene.restart()?;
    wait_until("both nodes to be next hops again", || {
        Ok(next_hops(&scene.rig)? == [2, 2])
    })?;
    scene.check(&Node::BOTH, &scene.rig.far, &at)?;
    scene.kill(client, &AT, name, withdrawn)
}

/// Next hops of the router for the IPv4 and the IPv6 address.
fn next_hops(rig: &Rig) -> Result<[usize; 2]> {
    let count = |family: &str, address: &str| -> Result<usize> {
        let routes = rig
            .switch
            .sh(&format!("ip {family} route show {address}"))?;
        Ok(routes.matches("via ").count())
    };
    Ok([count("-4", VIP_V4)?, count("-6", VIP_V6)?])
}

/// Runs what the documentation has as a unit of systemd: asks the daemon, and tells the speaker.
fn watch(scene: &mut Scene, node: Node, speaker: Speaker) -> Result<()> {
    let run = scene.rig.path(&format!("speaker-{}", node.name()));
    let run = run.display();
    let [announce, withdraw] = match speaker {
        Speaker::Bird => {
            ["enable", "disable"].map(|verb| format!("birdc -s {run}/bird.ctl {verb} '\"vip*\"'"))
        }
        Speaker::Frr => ["", "no "].map(|not| {
            format!(
                "vtysh --vty_socket {run} -c 'configure terminal' -c 'router bgp 65001' \
                 -c 'address-family ipv4 unicast' -c '{not}network {VIP_V4}/32' -c exit \
                 -c 'address-family ipv6 unicast' -c '{not}network {VIP_V6}/128'"
            )
        }),
    };
    let check = scene.health_check(node);
    let script = format!(
        "was=
while sleep 0.5; do
  if {check}; then is=yes; else is=no; fi
  [ \"$is\" = \"$was\" ] && continue
  if [ $is = yes ]; then {announce}; else {withdraw}; fi && was=$is
done
"
    );
    let file = write(&scene.rig, &format!("watch-{}.sh", node.name()), &script)?;
    let mut sh = node.host(&scene.rig).command("sh");
    sh.arg(file);
    scene.rig.spawn(sh, &format!("watch-{}.log", node.name()))
}

/// Starts BIRD on a node, or on the router.
fn start_bird(rig: &mut Rig, node: Option<Node>) -> Result<()> {
    let mut text = "log stderr all;\nprotocol device {}\n".to_owned();
    let (name, host) = match node {
        None => ("router", &rig.switch),
        Some(node) => (node.name(), node.host(rig)),
    };
    match node {
        None => {
            let _ = writeln!(text, "router id {ROUTER_V4};");
            for family in ["ipv4", "ipv6"] {
                let _ = writeln!(
                    text,
                    "protocol kernel {{ merge paths on; {family} {{ export where source = RTS_BGP; }}; }}"
                );
            }
            for (number, (v4, v6)) in [(EDGE_V4, EDGE_V6), (NODE2_V4, NODE2_V6)]
                .iter()
                .enumerate()
            {
                for (family, own, peer) in [("ipv4", ROUTER_V4, v4), ("ipv6", ROUTER_V6, v6)] {
                    text += &bgp(
                        &format!("{family}n{number}"),
                        (own, 65000),
                        (peer, 65001),
                        &format!("{family} {{ import all; export none; }};"),
                    );
                }
            }
        }
        Some(node) => {
            let (v4, v6) = own_addresses(node);
            let _ = writeln!(text, "router id {v4};");
            for (family, own, peer, vip) in [
                ("ipv4", v4, ROUTER_V4, format!("{VIP_V4}/32")),
                ("ipv6", v6, ROUTER_V6, format!("{VIP_V6}/128")),
            ] {
                let _ = writeln!(
                    text,
                    "protocol static vip_{family} {{ disabled; {family}; route {vip} via \"lo\"; }}"
                );
                let proto = format!(
                    "{family} {{ import none; export where proto = \"vip_{family}\"; next hop self; }};"
                );
                text += &bgp(
                    &format!("router_{family}"),
                    (own, 65001),
                    (peer, 65000),
                    &proto,
                );
            }
        }
    }
    let run = rig.path(&format!("speaker-{name}"));
    std::fs::create_dir_all(&run)?;
    let file = write(rig, &format!("bird-{name}.conf"), &text)?;
    let mut bird = host.command("bird");
    bird.args(["-f", "-c"]).arg(file);
    bird.arg("-s").arg(run.join("bird.ctl"));
    bird.arg("-P").arg(run.join("bird.pid"));
    rig.spawn(bird, &format!("bird-{name}.log"))
}

fn bgp(name: &str, own: (&str, u32), peer: (&str, u32), channels: &str) -> String {
    format!(
        "protocol bgp {name} {{\n  local {} as {};\n  neighbor {} as {};\n  \
         connect delay time 1; connect retry time 1; error wait time 1, 2;\n  {channels}\n}}\n",
        own.0, own.1, peer.0, peer.1
    )
}

/// Starts FRR on a node, or on the router.
fn start_frr(rig: &mut Rig, node: Option<Node>) -> Result<()> {
    let (name, host, own_as, id) = match node {
        None => ("router", &rig.switch, 65000, ROUTER_V4),
        Some(node) => (node.name(), node.host(rig), 65001, own_addresses(node).0),
    };
    let peers: Vec<(&str, &str)> = match node {
        None => vec![(EDGE_V4, EDGE_V6), (NODE2_V4, NODE2_V6)],
        Some(_) => vec![(ROUTER_V4, ROUTER_V6)],
    };
    let peer_as = if node.is_none() { 65001 } else { 65000 };
    let mut text = format!(
        "hostname {name}\nrouter bgp {own_as}\n bgp router-id {id}\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n bgp bestpath as-path multipath-relax\n"
    );
    for peer in peers.iter().flat_map(|(v4, v6)| [v4, v6]) {
        let _ = write!(
            text,
            " neighbor {peer} remote-as {peer_as}\n neighbor {peer} timers connect 1\n"
        );
    }
    text += " address-family ipv4 unicast\n  maximum-paths 8\n exit-address-family\n \
             address-family ipv6 unicast\n  maximum-paths 8\n";
    for (_, v6) in &peers {
        let _ = writeln!(text, "  neighbor {v6} activate");
    }
    text += " exit-address-family\n";
    let run = rig.path(&format!("speaker-{name}"));
    std::fs::create_dir_all(&run)?;
    host::run(Command::new("chown").arg("frr:frr").arg(&run))?;
    let bgpd_file = write(rig, &format!("bgpd-{name}.conf"), &text)?;
    let zebra_file = write(rig, &format!("zebra-{name}.conf"), "ipv6 forwarding\n")?;
    let mut commands = Vec::new();
    for (program, file) in [("zebra", zebra_file), ("bgpd", bgpd_file)] {
        let mut command = host.command(format!("/usr/lib/frr/{program}"));
        command.arg("-f").arg(file);
        command.arg("-i").arg(run.join(format!("{program}.pid")));
        command.arg("-z").arg(run.join("zserv.api"));
        command.arg("--vty_socket").arg(&run);
        command.args(["-P", "0", "--log", "stdout"]);
        commands.push((command, format!("{program}-{name}.log")));
    }
    for (command, log) in commands {
        rig.spawn(command, &log)?;
        let socket = run.join("zserv.api");
        wait_until("zebra", || Ok(socket.exists()))?;
    }
    Ok(())
}

fn own_addresses(node: Node) -> (&'static str, &'static str) {
    match node {
        Node::First => (EDGE_V4, EDGE_V6),
        Node::Second => (NODE2_V4, NODE2_V6),
    }
}

const VIP_V4: &str = "10.8.0.80";
const VIP_V6: &str = "fd08::80";
const AT: [&str; 2] = [VIP_V4, VIP_V6];
