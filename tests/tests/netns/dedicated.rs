//! `--uplink-in-netns`: a device of the node that is in the ingress netns as a whole, and comes back.

use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::daemon::Daemon;
use ingress_tests::host::Host;
use ingress_tests::rig::{
    CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, Options, POD1_V4, Rig, wait_until,
};

use crate::Scene;

/// A rig whose edge node has a second device, `eth1`, on a network of its own behind the router.
fn rig() -> Result<Rig> {
    let rig = Rig::build(Options::from_env()?)?;
    let switch = rig.switch.name();
    rig.edge.ip(&format!(
        "link add eth1 type veth peer name nic netns {switch}"
    ))?;
    for (host, device, v4, v6) in [
        (&rig.edge, "eth1", NIC_V4, NIC_V6),
        (&rig.switch, "nic", ROUTER_V4, ROUTER_V6),
    ] {
        host.ip(&format!("link set {device} up"))?;
        host.ip(&format!("addr add {v4}/24 dev {device}"))?;
        host.ip(&format!("addr add {v6}/64 dev {device} nodad"))?;
    }
    // As network managers configure a second card: a default route that comes second, and one in a table.
    for (family, router) in [("-4", ROUTER_V4), ("-6", ROUTER_V6)] {
        let route = format!("default via {router} dev eth1");
        rig.edge
            .ip(&format!("{family} route add {route} metric 4000"))?;
        rig.edge
            .ip(&format!("{family} route add {route} table 1001"))?;
    }
    wait_until("the link-local address", || {
        let shown = configuration(&rig.edge, "eth1")?;
        Ok(shown.contains("local fe80::") && !shown.contains(" tentative"))
    })?;
    Ok(rig)
}

fn scene() -> Result<Scene> {
    Scene::set_on(rig()?, |daemon| daemon.with(FLAG))
}

/// Addresses and routes of a device, a line each.
fn configuration(host: &Host, device: &str) -> Result<String> {
    let shown = host.sh(&format!(
        "ip -o addr show dev {device} | sed 's/^[0-9]*: //'; \
         for family in -4 -6; do ip $family route show table all dev {device}; done"
    ))?;
    let mut lines: Vec<_> = shown.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    Ok(lines.join("\n"))
}

/// Waits until a device has these addresses and routes: the kernel's check for duplicates of the link-local
/// address takes a second.
fn wait_for(host: &Host, expected: &str) -> Result<()> {
    let waited = wait_until("addresses and routes", || {
        Ok(configuration(host, "eth1")? == expected)
    });
    waited.with_context(|| configuration(host, "eth1").unwrap_or_default())
}

/// Asks for a page of a pod of the edge node and of one of the other node at both addresses of the device.
fn ask(scene: &Scene) -> Result<()> {
    for (address, told) in [
        (NIC_V4.to_owned(), CLIENT_V4),
        (format!("[{NIC_V6}]"), CLIENT_V6),
    ] {
        for host in ["near.test", "far.test"] {
            let url = format!("http://{address}/");
            let response = Request::get(&url, host).send(&scene.rig.client)?;
            assert_eq!(response.status, 200, "{host} at {address}");
            assert_eq!(response.client_address()?, told, "{host} at {address}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn clients_reach_the_ingress_through_a_device_of_its_own() -> Result<()> {
    let rig = rig()?;
    let other = configuration(&rig.edge, "eth0")?;
    let scene = Scene::set_on(rig, |daemon| daemon.with(FLAG))?;
    scene.rig.edge.flush_conntrack()?;
    ask(&scene)?;
    assert_eq!(scene.rig.edge.conntrack_table()?, NOTHING);
    assert_eq!(scene.sluice.requests("netns")?, 4);
    assert_eq!(scene.sluice.requests("host")?, 0);
    assert_eq!(scene.sluice.packets("steer", "frontend")?, 0, "no steering");
    assert_eq!(
        configuration(&scene.rig.edge, "eth0")?,
        other,
        "another device"
    );
    let status = scene.sluice.status()?;
    let devices = status["datapath"]["devices"].as_array().cloned();
    let devices = devices.unwrap_or_default();
    let device = devices.iter().find(|device| device["name"] == "eth1");
    let device = device.ok_or_else(|| anyhow::anyhow!("no eth1: {status:#}"))?;
    assert_eq!(
        (&device["role"], &device["datapath"]),
        (&"dedicated".into(), &"netns".into())
    );
    assert!(device["steer"].is_null());
    assert_ne!(device["guard"], "off", "{device:#}");
    assert!(scene.sluice.packets("guard", "opening")? >= 4);
    // Clients of the other device are steered as ever.
    let url = format!("http://{EDGE_V4}/");
    let response = Request::get(&url, "near.test").send(&scene.rig.client)?;
    assert_eq!(response.client_address()?, CLIENT_V4);
    assert!(scene.sluice.packets("steer", "frontend")? > 0);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn nothing_of_the_host_is_reached_through_a_dedicated_device() -> Result<()> {
    let scene = scene()?;
    let listener = scene
        .rig
        .edge
        .run(|| std::net::TcpListener::bind("[::]:22"))??;
    let dial = |address: &'static str| {
        let connect = move || TcpStream::connect((address, 22)).is_ok();
        scene.rig.client.run(connect)
    };
    ensure!(dial(EDGE_V4)?, "the host's own device leads to it");
    ensure!(
        !dial(NIC_V4)? && !dial(NIC_V6)?,
        "the dedicated device does not"
    );
    drop(listener);
    // Nor does the device speak for the addresses of the others.
    let asked = scene.rig.switch.sh(&format!(
        "ip route add {EDGE_V4} dev nic table 77; ip -4 neigh flush dev nic; \
         ping -I nic -c 1 -W 1 {EDGE_V4} >/dev/null 2>&1; ip -4 neigh show {EDGE_V4} dev nic"
    ))?;
    ensure!(!asked.contains("lladdr"), "{asked}");
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_node_and_its_pods_reach_a_dedicated_device_by_the_router() -> Result<()> {
    let scene = scene()?;
    for address in [NIC_V4.to_owned(), format!("[{NIC_V6}]")] {
        let url = format!("http://{address}/");
        let response = Request::get(&url, "far.test").send(&scene.rig.edge)?;
        assert_eq!(response.status, 200, "{address}");
        let told = response.client_address()?;
        assert!([EDGE_V4, EDGE_V6].contains(&&*told), "{told}");
    }
    // A pod of the node, whose address the router knows.
    scene
        .rig
        .switch
        .ip(&format!("route add {POD1_V4}/32 via {EDGE_V4}"))?;
    let url = format!("http://{NIC_V4}/");
    let response = Request::get(&url, "far.test").send(&scene.rig.pod1)?;
    assert_eq!(response.client_address()?, POD1_V4);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_killed_daemons_device_is_adopted_and_detach_gives_it_back() -> Result<()> {
    let rig = rig()?;
    let before = configuration(&rig.edge, "eth1")?;
    let mut scene = Scene::set_on(rig, |daemon| daemon.with(FLAG))?;
    ask(&scene)?;
    for _ in 0..2 {
        let restarted = {
            let Scene {
                sluice,
                daemon,
                manifests,
                rig,
            } = scene;
            sluice.kill();
            ensure!(configuration(&rig.edge, "eth1").is_err(), "it stays inside");
            let sluice = daemon.start(&rig.edge)?;
            Scene {
                sluice,
                daemon,
                manifests,
                rig,
            }
        };
        scene = restarted;
        ask(&scene)?;
        assert_eq!(scene.sluice.requests("netns")?, 4);
    }
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = scene;
    sluice.kill();
    wait_until("detach", || Ok(detach(&daemon, &rig)?.status.success()))?;
    wait_for(&rig.edge, &before)?;
    let again = detach(&daemon, &rig)?;
    let said = String::from_utf8_lossy(&again.stdout).into_owned();
    ensure!(said.contains("nothing to remove"), "{said}");
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_daemon_that_ends_gives_the_device_back() -> Result<()> {
    let rig = rig()?;
    let before = configuration(&rig.edge, "eth1")?;
    let Scene {
        sluice,
        daemon,
        rig,
        ..
    } = Scene::set_on(rig, |daemon| daemon.with(FLAG))?;
    sluice.stop()?;
    wait_for(&rig.edge, &before)?;
    // A daemon that is killed, and one without the flag after it.
    daemon.start(&rig.edge)?.kill();
    let sluice = daemon.with("--uplink-in-netns=").start(&rig.edge);
    ensure!(sluice.is_err(), "an empty name is no device");
    wait_for(&rig.edge, &before)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_device_that_the_host_needs_is_refused_with_the_reason() -> Result<()> {
    let rig = rig()?;
    rig.edge.ip("link add br9 type bridge")?;
    rig.edge.ip("link set br9 up")?;
    rig.edge.ip("addr add 10.99.0.1/24 dev br9")?;
    let before = configuration(&rig.edge, "eth1")?;
    let manifests = rig.path("manifests");
    crate::near_and_far().save(&manifests)?;
    let daemon = Daemon::new(&rig, "sluice", &manifests).with("--datapath=netns");
    let refused = |flags: &[String]| -> Result<String> {
        let daemon = flags
            .iter()
            .fold(daemon.clone(), |daemon, flag| daemon.with(flag));
        let started = daemon.start(&rig.edge).err();
        Ok(started.map_or_else(String::new, |error| format!("{error:#}")))
    };
    let flag = |device: &str| format!("--uplink-in-netns={device}");
    for (flags, reason) in [
        (vec![flag("eth7")], "device `eth7` does not exist"),
        (
            vec![flag("br9")],
            "device `br9` cannot leave its network namespace",
        ),
        (vec![flag("lo")], "device `lo` is no Ethernet device"),
        (
            vec![flag("eth1"), "--uplink=eth0,eth1".to_owned()],
            "device `eth1` is also named by --uplink",
        ),
        (
            vec![flag("eth1"), format!("--node-address={NIC_V4}")],
            "by which the cluster reaches this node",
        ),
    ] {
        let said = refused(&flags)?;
        ensure!(said.contains(reason), "{flags:?}: {said}");
    }
    for family in ["-4", "-6"] {
        rig.edge
            .ip(&format!("{family} route del default dev eth1"))?;
    }
    let said = refused(&[flag("eth0")])?;
    ensure!(
        said.contains("has the host's only default route over IPv4"),
        "{said}"
    );
    for (family, router) in [("-4", ROUTER_V4), ("-6", ROUTER_V6)] {
        let route = format!("default via {router} dev eth1 metric 4000");
        rig.edge.ip(&format!("{family} route add {route}"))?;
    }
    wait_for(&rig.edge, &before)
}

fn detach(daemon: &Daemon, rig: &Rig) -> Result<std::process::Output> {
    let flags = daemon.arguments().iter();
    let flags = flags.filter(|flag| flag.starts_with("--bpffs") || flag.starts_with("--ingress"));
    let mut command = rig.edge.command(&rig.options.sluice);
    Ok(command.arg("detach").args(flags).output()?)
}

const FLAG: &str = "--uplink-in-netns=eth1";
const NIC_V4: &str = "10.8.0.1";
const NIC_V6: &str = "fd08::1";
const ROUTER_V4: &str = "10.8.0.254";
const ROUTER_V6: &str = "fd08::fe";
const NOTHING: [String; 0] = [];
