//! Next hops that programs remember: routes, neighbours, MTUs and devices change under load, and no
//! request is lost that a router would have carried.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingress_tests::curl::Request;
use ingress_tests::host::{Host, link_address};
use ingress_tests::load::{Plan, Reuse, Running};
use ingress_tests::rig::{
    CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, ROUTER_V4, ROUTER_V6, wait_within,
};

use crate::Scene;

/// Requests over both versions, on kept connections and on new ones.
pub(super) fn loads(scene: &Scene, served: &str) -> Result<Vec<Running>> {
    let mut loads = Vec::new();
    for address in [EDGE_V4, EDGE_V6] {
        for reuse in [Reuse::KeepAlive, Reuse::NewConnection] {
            let plan = Plan {
                connections: 1,
                reuse,
                path: "/bytes/20000".to_owned(),
                ..Plan::kept_alive(address, served)?
            };
            loads.push(plan.start(&scene.rig.client)?);
        }
    }
    Ok(loads)
}

/// Waits until each of them has been answered some more.
pub(super) fn wait_for_answers(loads: &[Running]) -> Result<()> {
    let before: Vec<_> = loads.iter().map(Running::answered).collect();
    wait_within(PATIENCE, "answers on all ways", || {
        let answered = loads.iter().map(Running::answered).zip(&before);
        Ok(answered.into_iter().all(|(now, before)| now > before + 20))
    })
}

pub(super) fn stop_without_failures(loads: Vec<Running>) -> Result<()> {
    for load in loads {
        let outcome = load.stop()?;
        assert_eq!(outcome.failures, Vec::<String>::new());
    }
    Ok(())
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_client_that_changes_its_link_layer_address_loses_no_request() -> Result<()> {
    let scene = Scene::set()?;
    let loads = loads(&scene, "far.test")?;
    for number in 1..=5 {
        wait_for_answers(&loads)?;
        let mut address = link_address(&scene.rig.client, "eth0")?;
        address[5] = address[5].wrapping_add(number);
        scene
            .rig
            .client
            .ip(&format!("link set eth0 address {}", mac(address)))?;
    }
    wait_for_answers(&loads)?;
    stop_without_failures(loads)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_nodes_own_link_layer_address_may_change_under_load() -> Result<()> {
    let scene = Scene::set()?;
    let loads = loads(&scene, "far.test")?;
    for number in 1..=3 {
        wait_for_answers(&loads)?;
        let mut address = link_address(&scene.rig.edge, "eth0")?;
        address[5] = address[5].wrapping_add(number);
        let address = mac(address);
        scene
            .rig
            .edge
            .ip(&format!("link set eth0 address {address}"))?;
        // Others learn of it as a router tells them.
        for host in [&scene.rig.client, &scene.rig.node2] {
            for node in [EDGE_V4, EDGE_V6] {
                host.ip(&format!(
                    "neigh replace {node} lladdr {address} dev eth0 nud stale"
                ))?;
            }
        }
    }
    wait_for_answers(&loads)?;
    stop_without_failures(loads)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn answers_follow_routes_that_change_under_load() -> Result<()> {
    let scene = Scene::set()?;
    let loads = loads(&scene, "far.test")?;
    for _ in 0..5 {
        for (family, client, router) in ROUTES {
            let route = format!("{client} via {router} dev eth0");
            scene.rig.edge.ip(&format!("{family} route add {route}"))?;
        }
        let before = forwarded(&scene.rig.switch)?;
        wait_for_answers(&loads)?;
        ensure!(
            forwarded(&scene.rig.switch)? > before,
            "the router had no answers"
        );
        for (family, client, _) in ROUTES {
            scene.rig.edge.ip(&format!("{family} route del {client}"))?;
        }
        wait_for_answers(&loads)?;
    }
    stop_without_failures(loads)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_route_that_is_gone_is_used_no_more() -> Result<()> {
    let scene = Scene::set()?;
    for (family, client, node) in [
        ("-4", CLIENT_V4, EDGE_V4.to_owned()),
        ("-6", CLIENT_V6, format!("[{EDGE_V6}]")),
    ] {
        let plan = Plan::kept_alive(node.trim_matches(['[', ']']), "far.test")?;
        let load = plan.start(&scene.rig.client)?;
        wait_for_answers(std::slice::from_ref(&load))?;
        scene
            .rig
            .edge
            .ip(&format!("{family} route add blackhole {client}"))?;
        let changed = Instant::now();
        let passed = || scene.sluice.packets("return_path", "no_route");
        let before = passed()?;
        wait_within(PATIENCE, "answers to have no route", || {
            Ok(passed()? > before)
        })?;
        let after = changed.elapsed();
        assert!(after < Duration::from_secs(2), "{after:?}");
        // What is on its way has arrived.
        thread::sleep(Duration::from_millis(100));
        let answered = load.answered();
        thread::sleep(Duration::from_millis(500));
        assert_eq!(load.answered(), answered, "nothing is sent to a black hole");
        scene
            .rig
            .edge
            .ip(&format!("{family} route del blackhole {client}"))?;
        wait_for_answers(std::slice::from_ref(&load))?;
        assert_eq!(load.stop()?.failures, Vec::<String>::new());
        let url = format!("http://{node}/");
        assert_eq!(
            Request::get(&url, "far.test")
                .send(&scene.rig.client)?
                .status,
            200
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_mtu_that_shrinks_under_load_is_kept_to() -> Result<()> {
    let scene = Scene::set()?;
    // Answers of pods of this node: what the other node sends would have to fit first.
    let loads = loads(&scene, "near.test")?;
    for mtu in [1400, 1300, 1500, 1280, 1500] {
        scene.rig.edge.ip(&format!("link set eth0 mtu {mtu}"))?;
        wait_for_answers(&loads)?;
    }
    stop_without_failures(loads)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_uplink_that_comes_back_carries_on() -> Result<()> {
    // Its default route goes with it.
    let scene = Scene::set_with(|daemon| daemon.with("--uplink=eth0"))?;
    let plan = Plan::kept_alive(EDGE_V4, "near.test")?;
    let loads = [plan.start(&scene.rig.client)?];
    for _ in 0..3 {
        wait_for_answers(&loads)?;
        scene.rig.edge.ip("link set eth0 down")?;
        scene.rig.edge.ip("link set eth0 up")?;
    }
    wait_for_answers(&loads)?;
    stop_without_failures(loads.into())
}

/// Packets that a router has forwarded, of both versions.
fn forwarded(router: &Host) -> Result<u64> {
    let counts = router.sh("cat /proc/net/snmp /proc/net/snmp6")?;
    let mut ip = counts.lines().filter(|line| line.starts_with("Ip: "));
    let (names, values) = (ip.next().unwrap_or(""), ip.next().unwrap_or(""));
    let of = |wanted: &str| {
        let at = names.split_whitespace().position(|name| name == wanted);
        at.and_then(|at| values.split_whitespace().nth(at)?.parse::<u64>().ok())
    };
    let v6 = counts.lines().find_map(|line| {
        let line = line.strip_prefix("Ip6OutForwDatagrams")?;
        line.trim().parse::<u64>().ok()
    });
    Ok(of("ForwDatagrams").unwrap_or(0) + v6.unwrap_or(0))
}

/// Ways to the client through the router of the LAN.
const ROUTES: [(&str, &str, &str); 2] =
    [("-4", CLIENT_V4, ROUTER_V4), ("-6", CLIENT_V6, ROUTER_V6)];
const PATIENCE: Duration = Duration::from_mins(1);
