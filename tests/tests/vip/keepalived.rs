//! keepalived: VRRP moves an IPv4 and an IPv6 address between the uplinks of two nodes.

use anyhow::Result;
use ingress_tests::curl::Request;
use ingress_tests::host::Host;
use ingress_tests::rig::{CLIENT_V4, CLIENT_V6, EDGE_V4, EDGE_V6, NODE2_V4, Rig};

use super::scene::{Node, Scene, wait_for_server, write};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn keepalived_moves_an_address_of_the_uplink_without_a_lost_request() -> Result<()> {
    let mut scene = Scene::set("", &[])?;
    for node in Node::BOTH {
        start(&mut scene, node)?;
    }
    let client: fn(&Rig) -> &Host = |rig| &rig.client;
    wait_for_server(Node::First, &scene.rig.client, &AT)?;
    let at = [(VIP_V4, CLIENT_V4), (VIP_V6, CLIENT_V6)];
    scene.check(&[Node::First], &scene.rig.client, &at)?;
    // The kernel lists the virtual address first. Replies to it would follow it to the other node.
    let request = Request::get(&format!("http://[{VIP_V6}]/"), "six.test");
    let report = request.send(&scene.rig.client)?.report()?;
    assert_eq!(
        report["peer"], EDGE_V6,
        "endpoints see the node's own address"
    );

    scene.withdraw(client, &AT, "keepalived", |scene| {
        wait_for_server(Node::Second, &scene.rig.client, &AT)
    })?;
    scene.check(&[Node::Second], &scene.rig.client, &at)?;
    scene.restart()?;
    // The first node has the higher priority.
    wait_for_server(Node::First, &scene.rig.client, &AT)?;
    scene.kill(client, &AT, "keepalived", |_| Ok(()))
}

fn start(scene: &mut Scene, node: Node) -> Result<()> {
    let name = node.name();
    let (own, peer, priority) = match node {
        Node::First => (EDGE_V4, NODE2_V4, 150),
        Node::Second => (NODE2_V4, EDGE_V4, 100),
    };
    // A failed check lowers the priority rather than give the address up: the other node takes it first.
    let text = format!(
        "global_defs {{
  router_id {name}
  vrrp_version 3
  script_user root
}}
vrrp_script sluice {{
  script \"{check}\"
  interval 1
  timeout 2
  rise 1
  fall 1
  weight -60
}}
vrrp_instance edge {{
  state BACKUP
  interface eth0
  virtual_router_id 51
  priority {priority}
  advert_int 0.1
  unicast_src_ip {own}
  unicast_peer {{
    {peer}
  }}
  track_script {{
    sluice
  }}
  virtual_ipaddress {{
    {VIP_V4}/32 dev eth0
  }}
  virtual_ipaddress_excluded {{
    {VIP_V6}/128 dev eth0
  }}
}}
",
        check = scene.health_check(node)
    );
    let file = write(&scene.rig, &format!("keepalived-{name}.conf"), &text)?;
    let mut keepalived = node.host(&scene.rig).command("keepalived");
    keepalived.args(["--dont-fork", "--log-console", "--log-detail", "--vrrp"]);
    keepalived.arg("--use-file").arg(file);
    for (flag, of) in [("--pid", "parent"), ("--vrrp_pid", "vrrp")] {
        let pid = scene.rig.path(&format!("keepalived-{name}-{of}.pid"));
        keepalived.arg(flag).arg(pid);
    }
    scene
        .rig
        .spawn(keepalived, &format!("keepalived-{name}.log"))
}

const VIP_V4: &str = "10.1.0.80";
const VIP_V6: &str = "fd01::80";
const AT: [&str; 2] = [VIP_V4, VIP_V6];
