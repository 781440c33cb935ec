//! Cables of the rig: hosts on a LAN, and pods on their node.

use anyhow::Result;

use crate::host::Host;
use crate::rig::{ROUTER_V4, ROUTER_V6};

/// Makes a host the switch of a LAN, and the router of those on it.
pub fn make_switch(switch: &Host) -> Result<()> {
    switch.ip("link add br0 type bridge")?;
    switch.ip("link set br0 up")?;
    switch.ip(&format!("addr add {ROUTER_V4}/24 dev br0"))?;
    switch.ip(&format!("addr add {ROUTER_V6}/64 dev br0 nodad"))?;
    forward_packets(switch)
}

/// Makes a host forward packets.
pub fn forward_packets(host: &Host) -> Result<()> {
    host.sysctl("net/ipv4/ip_forward", "1")?;
    host.sysctl("net/ipv6/conf/all/forwarding", "1")
}

/// Connects a host to the LAN, at a port of the switch.
pub fn join(switch: &Host, host: &Host, port: &str, v4: Option<&str>, v6: &str) -> Result<()> {
    host.ip(&format!(
        "link add eth0 type veth peer name {port} netns {}",
        switch.name()
    ))?;
    switch.ip(&format!("link set {port} master br0 up"))?;
    host.ip("link set eth0 up")?;
    if let Some(v4) = v4 {
        host.ip(&format!("addr add {v4}/24 dev eth0"))?;
        host.ip(&format!("route add default via {ROUTER_V4}"))?;
    }
    host.ip(&format!("addr add {v6}/64 dev eth0 nodad"))?;
    host.ip(&format!("-6 route add default via {ROUTER_V6}"))
}

/// Connects a pod to its node by a veth pair, routed, with proxy addresses as Calico has them.
pub fn attach_pod(node: &Host, pod: &Host, device: &str, v4: &str, v6: &str) -> Result<()> {
    node.ip(&format!(
        "link add {device} type veth peer name eth0 netns {}",
        pod.name()
    ))?;
    node.ip(&format!("link set {device} up"))?;
    // The node answers for the pod's next hop, which nobody has.
    node.sysctl(&format!("net/ipv4/conf/{device}/proxy_arp"), "1")?;
    node.sysctl(&format!("net/ipv4/neigh/{device}/proxy_delay"), "0")?;
    node.ip(&format!("addr add fe80::1/64 dev {device} nodad"))?;
    node.ip(&format!("route add {v4}/32 dev {device}"))?;
    node.ip(&format!("-6 route add {v6}/128 dev {device}"))?;
    pod.ip("link set eth0 up")?;
    pod.ip(&format!("addr add {v4}/32 dev eth0"))?;
    pod.ip(&format!("addr add {v6}/128 dev eth0 nodad"))?;
    pod.ip("route add 169.254.1.1 dev eth0")?;
    pod.ip("route add default via 169.254.1.1")?;
    pod.ip("-6 route add default via fe80::1 dev eth0")
}
