//! Pods of another node behind a VXLAN device (RFC 7348), as flannel makes it: packets to them take 50 bytes
//! more on the wire, so that its MTU is 1,450.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::{Host, link_address};
use ingress_tests::rig::{CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, NODE2_V4, Options, POD3_V6, Rig};

use crate::Scene;

/// A rig in which pods of the other node are reached through `flannel.1`, whose devices have its MTU
/// (`pod_mtu`: that of the pods').
fn rig(pod_mtu: u32) -> Result<Rig> {
    let rig = Rig::build(Options::from_env()?)?;
    for (host, own, v4, v6) in [
        (&rig.edge, EDGE_V4, OVERLAY_V4, OVERLAY_V6),
        (&rig.node2, NODE2_V4, OVERLAY2_V4, OVERLAY2_V6),
    ] {
        host.ip(&format!(
            "link add flannel.1 type vxlan id 1 local {own} dev eth0 dstport 8472 nolearning"
        ))?;
        host.ip("link set flannel.1 mtu 1450 up")?;
        host.ip(&format!("addr add {v4}/32 dev flannel.1"))?;
        host.ip(&format!("addr add {v6}/128 dev flannel.1 nodad"))?;
    }
    meet(&rig.edge, &rig.node2, NODE2_V4, OVERLAY2_V4, OVERLAY2_V6)?;
    meet(&rig.node2, &rig.edge, EDGE_V4, OVERLAY_V4, OVERLAY_V6)?;
    for (family, network, via) in [
        ("-4", "10.2.2.0/24", OVERLAY2_V4),
        ("-6", "fd02:2::/64", OVERLAY2_V6),
    ] {
        let route = format!("{network} via {via} dev flannel.1 onlink");
        rig.edge.ip(&format!("{family} route replace {route}"))?;
    }
    rig.node2.ip(&format!("link set pod3 mtu {pod_mtu}"))?;
    rig.pod3.ip(&format!("link set eth0 mtu {pod_mtu}"))?;
    Ok(rig)
}

/// Tells a node where the other one's overlay addresses are.
fn meet(host: &Host, other: &Host, at: &str, v4: &str, v6: &str) -> Result<()> {
    let mac = link_address(other, "flannel.1")?;
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    host.sh(&format!("bridge fdb append {mac} dev flannel.1 dst {at}"))?;
    for address in [v4, v6] {
        host.ip(&format!("neigh add {address} lladdr {mac} dev flannel.1"))?;
    }
    Ok(())
}

fn large_bodies_arrive_whole(pod_mtu: u32) -> Result<()> {
    let scene = Scene::serve(
        rig(pod_mtu)?,
        &crate::near_and_far().serve("far6.test", &[POD3_V6]),
        |daemon| daemon.with("--proxy-body-size=0"),
    )?;
    let client = &scene.rig.client;
    let upload = scene.rig.path("upload");
    fs::write(&upload, vec![b'u'; LARGE])?;
    let data = format!("@{}", upload.display());
    scene.rig.edge.flush_conntrack()?;
    let sent = carried(&scene.rig.edge)?;
    for host in ["far.test", "far6.test"] {
        for (address, told) in [
            (EDGE_V4.to_owned(), CLIENT_V4),
            (format!("[{EDGE_V6}]"), CLIENT_V6),
        ] {
            let url = format!("http://{address}");
            let who = Request::get(&format!("{url}/"), host).send(client)?;
            assert_eq!(who.client_address()?, told);
            let answer = Request::get(&format!("{url}/bytes/{LARGE}"), host).send(client)?;
            assert_eq!(answer.body.len(), LARGE, "answer of {host} at {address}");
            let post = Request::get(&format!("{url}/"), host);
            let post = post.with(&["--data-binary", &data]).send(client)?;
            assert_eq!(post.report()?["body_bytes"], LARGE, "{host} at {address}");
        }
    }
    let sent = carried(&scene.rig.edge)? - sent;
    ensure!(
        sent > 4 * LARGE,
        "{sent} bytes went through the VXLAN device"
    );
    let status = scene.sluice.status()?;
    let direct = &status["datapath"]["direct_endpoints"];
    assert_eq!(*direct, 4, "all endpoints");
    // The outer packets are the host's own datagrams: they are tracked, and nothing else is.
    let tracked = scene.rig.edge.conntrack_table()?;
    let inner = tracked.iter().filter(|entry| !entry.contains("dport=8472"));
    assert_eq!(inner.collect::<Vec<_>>(), Vec::<&String>::new());
    Ok(())
}

/// Bytes that the VXLAN device has sent.
fn carried(host: &Host) -> Result<usize> {
    let shown = host.sh("ip -json -stats link show flannel.1")?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let bytes = shown[0]["stats64"]["tx"]["bytes"].as_u64();
    Ok(usize::try_from(bytes.context("the device counts")?)?)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn pods_behind_a_vxlan_device_get_and_send_large_bodies() -> Result<()> {
    large_bodies_arrive_whole(1450)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn pods_that_do_not_know_of_a_vxlan_devices_mtu_get_and_send_large_bodies() -> Result<()> {
    large_bodies_arrive_whole(1500)
}

const OVERLAY_V4: &str = "10.2.1.0";
const OVERLAY_V6: &str = "fd03::1";
const OVERLAY2_V4: &str = "10.2.2.0";
const OVERLAY2_V6: &str = "fd03::2";
const LARGE: usize = 2 << 20;
