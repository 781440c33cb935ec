//! Addresses that a load-balancer implementation gives to a Service, and that no device has.
//!
//! What `MetalLB`, Cilium and kube-vip do to the network is done by hand: a neighbour entry as their reply to
//! ARP or NDP would make it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ingress_tests::host::Host;
use ingress_tests::rig::{CLIENT_V4, CLIENT_V6, Rig, wait_until};
use serde_json::Value;

use super::scene::{Node, Scene, say, server, wait_for_server};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_adopted_address_is_on_no_device_and_moves_without_a_lost_request() -> Result<()> {
    let service = service(&[VIP_V4, VIP_V6]);
    let mut scene = Scene::set(&service, &["--adopt-service=default/vip"])?;
    let client: fn(&Rig) -> &Host = |rig| &rig.client;
    lead_to(&scene.rig, Node::First)?;
    wait_for_server(Node::First, &scene.rig.client, &AT)?;
    let at = [(VIP_V4, CLIENT_V4), (VIP_V6, CLIENT_V6)];
    for node in Node::BOTH {
        let addresses = node.host(&scene.rig).sh("ip address show")?;
        ensure!(!AT.iter().any(|vip| addresses.contains(&format!("{vip}/"))));
    }
    scene.check(&[Node::First], &scene.rig.client, &at)?;

    scene.withdraw(client, &AT, "adopted Service", |scene| {
        lead_to(&scene.rig, Node::Second)?;
        wait_for_server(Node::Second, &scene.rig.client, &AT)
    })?;
    scene.check(&[Node::Second], &scene.rig.client, &at)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn adopted_addresses_are_followed_within_a_second() -> Result<()> {
    let scene = Scene::set(&service(&[]), &["--adopt-service=default/vip"])?;
    let client = &scene.rig.client;
    lead_to(&scene.rig, Node::First)?;
    assert_eq!(server(client, VIP_V4), None, "nobody has it");
    scene.change(Node::First, &service(&AT))?;
    let changed = Instant::now();
    wait_until("the addresses to be adopted", || {
        Ok(adopted(&scene)?.len() == 2)
    })?;
    let took = changed.elapsed();
    say(&format!(
        "adopted Service: served {} ms after the change",
        took.as_millis()
    ));
    ensure!(took < SOON, "{took:?}");
    wait_for_server(Node::First, client, &AT)?;
    let found = adopted(&scene)?;
    assert_eq!(found[0]["address"], VIP_V4);
    assert_eq!(found[0]["ports"], serde_json::json!([80, 443]));
    assert_eq!(found[0]["is_steered"], true);
    scene.change(Node::First, &service(&[VIP_V6]))?;
    let changed = Instant::now();
    wait_until("one to go", || Ok(adopted(&scene)?.len() == 1))?;
    ensure!(changed.elapsed() < SOON);
    assert_eq!(server(client, VIP_V4), None, "it is no longer served");
    wait_for_server(Node::First, client, &[VIP_V6])
}

/// The adopted addresses of the first node.
fn adopted(scene: &Scene) -> Result<Vec<Value>> {
    let first = scene.first.as_ref().context("it has ended")?;
    let status = first.status()?;
    let all = status["frontends"].as_array().context("no frontends")?;
    let given = |one: &&Value| one["given_by"] == "Service default/vip";
    Ok(all.iter().filter(given).cloned().collect())
}

/// Has the client's packets to the addresses go to a node.
fn lead_to(rig: &Rig, node: Node) -> Result<()> {
    let link = node.host(rig).sh("ip -oneline link show dev eth0")?;
    let mut words = link.split_whitespace();
    words.find(|word| *word == "link/ether");
    let mac = words.next().context("eth0 has no address")?;
    for vip in AT {
        rig.client.ip(&format!(
            "neigh replace {vip} lladdr {mac} nud permanent dev eth0"
        ))?;
    }
    Ok(())
}

fn service(addresses: &[&str]) -> String {
    let ingress: Vec<_> = addresses
        .iter()
        .map(|ip| format!("{{ip: \"{ip}\"}}"))
        .collect();
    format!(
        "apiVersion: v1
kind: Service
metadata: {{name: vip, namespace: default}}
spec:
  type: LoadBalancer
  ports: [{{name: http, port: 80}}, {{name: https, port: 443}}]
status: {{loadBalancer: {{ingress: [{}]}}}}
",
        ingress.join(", ")
    )
}

const VIP_V4: &str = "10.1.0.90";
const VIP_V6: &str = "fd01::90";
const AT: [&str; 2] = [VIP_V4, VIP_V6];
const SOON: Duration = Duration::from_secs(1);
