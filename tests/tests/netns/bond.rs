//! An uplink that is a bond (active-backup): one of two cards carries everything, until the other one does.

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::rig::{
    CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, NODE2_V4, NODE2_V6, Options, ROUTER_V4, ROUTER_V6, Rig,
    wait_until,
};

use super::next_hops::{loads, stop_without_failures, wait_for_answers};
use crate::Scene;

/// A rig whose edge node has `bond0` of `eth0` and `eth2` in the place of `eth0`.
fn rig() -> Result<Rig> {
    let rig = Rig::build(Options::from_env()?)?;
    let (edge, switch) = (&rig.edge, &rig.switch);
    let name = switch.name();
    edge.ip(&format!(
        "link add eth2 type veth peer name edge2 netns {name}"
    ))?;
    switch.ip("link set edge2 master br0 up")?;
    edge.ip("link add bond0 type bond mode active-backup miimon 50")?;
    for member in ["eth0", "eth2"] {
        edge.ip(&format!("link set {member} down"))?;
        edge.ip(&format!("addr flush dev {member}"))?;
        edge.ip(&format!("link set {member} master bond0"))?;
    }
    edge.ip("link set bond0 up")?;
    edge.ip(&format!("addr add {EDGE_V4}/24 dev bond0"))?;
    edge.ip(&format!("addr add {EDGE_V6}/64 dev bond0 nodad"))?;
    for (family, network, router) in [
        ("-4", "default", ROUTER_V4),
        ("-6", "default", ROUTER_V6),
        ("-4", "10.2.2.0/24", NODE2_V4),
        ("-6", "fd02:2::/64", NODE2_V6),
    ] {
        edge.ip(&format!("{family} route replace {network} via {router}"))?;
    }
    wait_until("a member to carry the bond", || {
        Ok(!active_member(edge)?.is_empty())
    })?;
    Ok(rig)
}

fn active_member(host: &Host) -> Result<String> {
    let shown = host.sh("ip -json -details link show bond0")?;
    let shown: serde_json::Value = serde_json::from_str(&shown)?;
    let active = &shown[0]["linkinfo"]["info_data"]["active_slave"];
    Ok(active.as_str().unwrap_or_default().to_owned())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_bond_whose_active_member_changes_loses_no_request() -> Result<()> {
    let scene = Scene::set_on(rig()?, |daemon| daemon)?;
    let (edge, switch) = (&scene.rig.edge, &scene.rig.switch);
    edge.flush_conntrack()?;
    for (address, told) in [
        (EDGE_V4.to_owned(), CLIENT_V4),
        (format!("[{EDGE_V6}]"), CLIENT_V6),
    ] {
        let url = format!("http://{address}/");
        let response = Request::get(&url, "far.test").send(&scene.rig.client)?;
        assert_eq!(response.client_address()?, told);
    }
    assert_eq!(scene.sluice.requests("netns")?, 2);
    let loads = loads(&scene, "far.test")?;
    wait_for_answers(&loads)?;
    for round in 0..2 {
        // By hand, as for maintenance.
        for member in ["eth2", "eth0"] {
            edge.ip(&format!("link set bond0 type bond active_slave {member}"))?;
            ensure!(active_member(edge)? == member, "round {round}");
            wait_for_answers(&loads)?;
        }
        // The cable of the active one is pulled.
        switch.ip("link set edge down")?;
        wait_until("the other member to carry the bond", || {
            Ok(active_member(edge)? == "eth2")
        })?;
        wait_for_answers(&loads)?;
        switch.ip("link set edge up")?;
    }
    stop_without_failures(loads)?;
    assert_eq!(scene.sluice.requests("host")?, 0, "all were steered");
    assert_eq!(edge.conntrack_table()?, Vec::<String>::new());
    Ok(())
}
