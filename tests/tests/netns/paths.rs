//! Which way packets go, and what arrives.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::manifest::Manifest;
use ingress_tests::packet::{Packet, Tcp};
use ingress_tests::rig::wait_until;
use ingress_tests::rig::{
    CLIENT_V4, CLIENT_V6, CLIENT6_V6, EDGE_V4, EDGE_V6, FAR_MTU, FAR_V4, FAR_V6, POD1_V4, POD1_V6,
    POD3_V6, PROXY_V4,
};
use ingress_tests::services::NODE_PORT;
use ingress_tests::wire::send_frame;

use crate::Scene;

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_pod_is_told_the_clients_address_over_ipv4_and_ipv6() -> Result<()> {
    let scene = Scene::set()?;
    let (client, client6) = (&scene.rig.client, &scene.rig.client6);
    for (sender, address, told) in [
        (client, EDGE_V4, CLIENT_V4),
        (client, "[fd01::1]", CLIENT_V6),
        (client6, "[fd01::1]", CLIENT6_V6),
    ] {
        for (host, pods) in [
            ("near.test", &["pod1", "pod2"][..]),
            ("far.test", &["pod3"]),
        ] {
            let response = Request::get(&format!("http://{address}/"), host).send(sender)?;
            assert_eq!(response.status, 200);
            assert_eq!(response.client_address()?, told, "{host} at {address}");
            assert!(
                pods.contains(&response.pod()?.as_str()),
                "{host} at {address}"
            );
        }
    }
    assert_eq!(scene.sluice.requests("netns")?, 6);
    assert_eq!(scene.sluice.requests("host")?, 0);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn no_conntrack_entry_is_made_while_nat_rules_are_active() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut origin = scene.rig.proxy.command(&scene.rig.options.origin);
    origin.args(["--name", "behind-nodeport", "--listen", "[::]:80"]);
    scene.rig.spawn(origin, "nodeport.log")?;
    scene.rig.wait_for_port(&scene.rig.edge, PROXY_V4, 80)?;
    let edge = &scene.rig.edge;
    // The rules work: the same node tracks what goes through the NodePort.
    edge.flush_conntrack()?;
    let nodeport = format!("http://{EDGE_V4}:{NODE_PORT}/");
    let response = Request::get(&nodeport, "any.test").send(&scene.rig.client)?;
    assert_eq!(response.pod()?, "behind-nodeport");
    // Beside it there may be what the rig's own connections end with.
    let table = edge.conntrack_table()?;
    let dport = format!("dport={NODE_PORT} ");
    let tracked = table.iter().filter(|entry| entry.contains(&dport));
    assert_eq!(tracked.count(), 1, "tracking is active: {table:?}");
    edge.flush_conntrack()?;
    for host in ["near.test", "far.test"] {
        for url in [format!("http://{EDGE_V4}/"), format!("http://[{EDGE_V6}]/")] {
            assert_eq!(
                Request::get(&url, host).send(&scene.rig.client)?.status,
                200
            );
        }
    }
    assert_eq!(edge.conntrack_table()?, NOTHING);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn endpoints_are_reached_over_ipv6_too() -> Result<()> {
    let scene = Scene::set()?;
    let generation = scene.sluice.generation()?;
    let manifest = Manifest::default().serve("six.test", &[POD1_V6, POD3_V6]);
    manifest.save(&scene.manifests)?;
    scene.sluice.wait_for_generation_after(generation)?;
    scene.rig.edge.flush_conntrack()?;
    for _ in 0..4 {
        let response =
            Request::get(&format!("http://{EDGE_V4}/"), "six.test").send(&scene.rig.client)?;
        assert_eq!(response.status, 200);
        assert_eq!(
            response.report()?["peer"],
            EDGE_V6,
            "the node speaks for itself"
        );
    }
    assert_eq!(scene.rig.edge.conntrack_table()?, NOTHING);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn large_answers_and_uploads_cross_a_smaller_mtu() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--proxy-body-size=0"))?;
    let far = &scene.rig.far;
    let upload = scene.rig.path("upload");
    std::fs::write(&upload, vec![b'u'; LARGE])?;
    let data = format!("@{}", upload.display());
    for (address, told) in [
        (EDGE_V4.to_owned(), FAR_V4),
        (format!("[{EDGE_V6}]"), FAR_V6),
    ] {
        let answer = Request::get(&format!("http://{address}/bytes/{LARGE}"), "near.test");
        let answer = answer.send(far)?;
        assert_eq!(answer.body.len(), LARGE, "answer over {address}");
        let post = Request::get(&format!("http://{address}/"), "far.test");
        let post = post.with(&["--data-binary", &data]).send(far)?;
        assert_eq!(post.report()?["body_bytes"], LARGE, "{address}");
        let who = Request::get(&format!("http://{address}/"), "near.test").send(far)?;
        assert_eq!(who.client_address()?, told);
    }
    // The router said so, and steer brought its words to the socket that they are for.
    let errors = scene.sluice.packets("steer", "icmp_error")?;
    assert!(
        errors >= 2,
        "{errors} ICMP errors about packets larger than {FAR_MTU}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_service_on_another_port_is_untouched() -> Result<()> {
    let scene = Scene::set()?;
    let address = format!("{EDGE_V4}:22");
    let listener = scene.rig.edge.run(|| TcpListener::bind(&address))??;
    let server = std::thread::spawn(move || -> std::io::Result<String> {
        let (mut stream, peer) = listener.accept()?;
        stream.write_all(b"SSH-2.0-rig\r\n")?;
        Ok(peer.ip().to_string())
    });
    let banner = scene.rig.client.run(|| -> std::io::Result<String> {
        let mut banner = String::new();
        TcpStream::connect(&address)?.read_to_string(&mut banner)?;
        Ok(banner)
    })??;
    assert_eq!(banner, "SSH-2.0-rig\r\n");
    let peer = server.join().ok().context("the server panicked")??;
    assert_eq!(peer, CLIENT_V4);
    assert!(scene.sluice.packets("steer", "not_ours")? > 0);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_node_and_its_pods_reach_the_ingress() -> Result<()> {
    let scene = Scene::set()?;
    let ask = |sender: &Host| {
        Request::get(&format!("http://{EDGE_V4}/"), "far.test")
            .send(sender)?
            .client_address()
    };
    assert_eq!(ask(&scene.rig.edge)?, EDGE_V4, "from the node itself");
    assert_eq!(
        scene.sluice.requests("host")?,
        1,
        "the host listener serves the node"
    );
    assert_eq!(ask(&scene.rig.pod1)?, POD1_V4, "from a pod of the node");
    // A pod that is no endpoint: nothing is attached to its device.
    assert_eq!(ask(&scene.rig.proxy)?, PROXY_V4, "from another pod");
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_endpoint_on_the_host_network_is_reached() -> Result<()> {
    let mut scene = Scene::set()?;
    let mut origin = scene.rig.edge.command(&scene.rig.options.origin);
    origin.args(["--name", "hostpod", "--listen", "[::]:9090"]);
    scene.rig.spawn(origin, "hostpod.log")?;
    scene.rig.wait_for_port(&scene.rig.edge, EDGE_V4, 9090)?;
    let generation = scene.sluice.generation()?;
    Manifest::default()
        .serve_at("host.test", &[EDGE_V4], 9090)
        .save(&scene.manifests)?;
    scene.sluice.wait_for_generation_after(generation)?;
    let url = format!("http://{EDGE_V4}/");
    let response = Request::get(&url, "host.test").send(&scene.rig.client)?;
    assert_eq!(response.pod()?, "hostpod");
    assert_eq!(response.client_address()?, CLIENT_V4);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn malformed_packets_are_dropped_counted_and_spoken_of() -> Result<()> {
    let scene = Scene::set()?;
    let (source, destination): (Ipv4Addr, Ipv4Addr) = (CLIENT_V4.parse()?, EDGE_V4.parse()?);
    let mac = scene
        .rig
        .edge
        .sh("cat /proc/net/arp; ip -json link show dev eth0")?;
    let mac = mac
        .split("\"address\":\"")
        .nth(1)
        .and_then(|rest| rest.get(..17))
        .context("eth0 has an address")?;
    let bytes: Vec<u8> = mac
        .split(':')
        .flat_map(|byte| u8::from_str_radix(byte, 16))
        .collect();
    let mac: [u8; 6] = bytes.try_into().ok().context("of six bytes")?;
    let syn_fin = Tcp::with_flags(40_000, 80, 0x03);
    let frame = Packet::new(source, destination, syn_fin)
        .to_mac(mac)
        .bytes();
    for _ in 0..FRAMES {
        scene.rig.client.run(|| send_frame("eth0", &frame))??;
    }
    wait_until("the packets to be dropped", || {
        Ok(scene.sluice.packets("guard", "tcp_syn_fin")? == FRAMES)
    })?;
    // Once for each CPU that saw one: words are for people.
    let spoken = || {
        scene
            .sluice
            .log()
            .matches("guard: dropped a packet")
            .count()
    };
    wait_until("the guard to speak", || Ok(spoken() >= 1))?;
    let cpus = std::thread::available_parallelism()?.get();
    assert!(spoken() <= cpus, "{}", scene.sluice.log());
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn older_means_of_attachment_carry_the_same_traffic() -> Result<()> {
    let scene = Scene::set_with(|daemon| daemon.with("--tc=clsact").with("--xdp=generic"))?;
    scene.rig.edge.flush_conntrack()?;
    let url = format!("http://{EDGE_V4}/");
    let response = Request::get(&url, "near.test").send(&scene.rig.client)?;
    assert_eq!(response.client_address()?, CLIENT_V4);
    assert_eq!(scene.rig.edge.conntrack_table()?, NOTHING);
    let status = scene.sluice.status()?;
    let uplink = &status["datapath"]["devices"][0];
    assert_eq!(
        (&uplink["steer"], &uplink["guard"]),
        (&"clsact".into(), &"generic".into())
    );
    assert_eq!(status["datapath"]["gate"]["return_path"], "clsact");
    assert!(scene.sluice.packets("guard", "accepted")? > 0);
    let filters = "tc filter show dev eth0 ingress";
    assert!(scene.rig.edge.sh(filters)?.contains("steer"));
    scene.sluice.stop()?;
    assert!(
        !scene.rig.edge.sh(filters)?.contains("steer"),
        "gone with the daemon"
    );
    Ok(())
}

const FRAMES: u64 = 20;
const LARGE: usize = 2 << 20;
const NOTHING: [String; 0] = [];
