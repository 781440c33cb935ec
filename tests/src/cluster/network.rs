//! The cluster's hosts: a switch, clients and the control plane on it, nodes, and what pods of a node
//! are addressed by.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result};

use super::control::CONTROL_V4;
use crate::host::Host;
use crate::rig::{CLIENT_V4, CLIENT_V6, CLIENT6_V6};
use crate::wiring;

/// Everything that is plugged into the switch but the control plane, which has a host of its own.
#[derive(Debug)]
pub struct Network {
    /// Switch of the LAN.
    pub switch: Host,
    /// A client with IPv4 and IPv6.
    pub client: Host,
    /// A client with IPv6 only.
    pub client6: Host,
}

/// What a node is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Clients come to it: labelled as ingress controllers look for it.
    Edge,
    /// It runs pods.
    Worker,
}

/// A node: a host with pods.
#[derive(Debug)]
pub struct Node {
    /// Name of its Node object.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// Its network namespace.
    pub host: Host,
    /// Its address.
    pub v4: String,
    /// Its address.
    pub v6: String,
    number: u8,
    free: Mutex<VecDeque<u8>>,
    devices: AtomicU32,
}

/// Addresses of a pod, in the pod range of its node.
#[derive(Clone, Copy, Debug)]
pub struct PodAddress {
    node: u8,
    pod: u8,
}

impl Network {
    /// Makes switch and clients.
    pub fn build(prefix: &str) -> Result<Self> {
        let make = |name: &str| Host::create(&format!("{prefix}-{name}"));
        let network = Self {
            switch: make("switch")?,
            client: make("client")?,
            client6: make("client6")?,
        };
        wiring::make_switch(&network.switch)?;
        for (host, port, v4, v6) in [
            (&network.client, "client", Some(CLIENT_V4), CLIENT_V6),
            (&network.client6, "client6", None, CLIENT6_V6),
        ] {
            wiring::join(&network.switch, host, port, v4, v6)?;
        }
        Ok(network)
    }

    /// Makes the host of the control plane, with routes to pods.
    pub fn control(&self, prefix: &str, nodes: &[Node]) -> Result<Host> {
        let host = Host::create(&format!("{prefix}-control"))?;
        wiring::join(&self.switch, &host, "control", Some(CONTROL_V4), CONTROL_V6)?;
        for node in nodes {
            node.route_pods_for(&host)?;
        }
        Ok(host)
    }

    /// Makes the nodes, with routes to each other's pods.
    pub fn nodes(&self, prefix: &str, roles: &[(String, Role)]) -> Result<Vec<Node>> {
        let nodes = (1..)
            .zip(roles)
            .map(|(number, (name, role))| self.node(prefix, number, name, *role))
            .collect::<Result<Vec<_>>>()?;
        for node in &nodes {
            for other in nodes.iter().filter(|other| other.number != node.number) {
                let [v4, v6] = other.pod_ranges();
                node.host.ip(&format!("route add {v4} via {}", other.v4))?;
                node.host
                    .ip(&format!("-6 route add {v6} via {}", other.v6))?;
            }
        }
        Ok(nodes)
    }

    fn node(&self, prefix: &str, number: u8, name: &str, role: Role) -> Result<Node> {
        let node = Node {
            name: name.to_owned(),
            role,
            host: Host::create(&format!("{prefix}-{name}"))?,
            v4: format!("10.1.0.{}", NODES_FROM + number),
            v6: format!("fd01::{}", NODES_FROM + number),
            number,
            free: Mutex::new((1..PODS_MAX).collect()),
            devices: AtomicU32::new(0),
        };
        wiring::join(&self.switch, &node.host, name, Some(&node.v4), &node.v6)?;
        wiring::forward_packets(&node.host)?;
        Ok(node)
    }
}

impl Node {
    /// Ranges of its pods, IPv4 first.
    pub fn pod_ranges(&self) -> [String; 2] {
        let number = self.number;
        [format!("10.2.{number}.0/24"), format!("fd02:{number}::/64")]
    }

    /// Tells another host on the LAN the way to this node's pods.
    fn route_pods_for(&self, other: &Host) -> Result<()> {
        let [v4, v6] = self.pod_ranges();
        other.ip(&format!("route add {v4} via {}", self.v4))?;
        other.ip(&format!("-6 route add {v6} via {}", self.v6))
    }

    /// Takes the address that has been free for longest.
    pub fn take_address(&self) -> Result<PodAddress> {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let pod = free.pop_front().context("the node has no more addresses")?;
        Ok(PodAddress {
            node: self.number,
            pod,
        })
    }

    /// Gives an address back.
    pub fn give_back(&self, address: PodAddress) {
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push_back(address.pod);
    }

    /// A device name that no pod of this node has had.
    pub fn next_device(&self) -> String {
        format!("pod{}", self.devices.fetch_add(1, Ordering::Relaxed))
    }
}

impl PodAddress {
    /// The address in IPv4.
    pub fn v4(self) -> String {
        format!("10.2.{}.{}", self.node, self.pod)
    }

    /// The address in IPv6.
    pub fn v6(self) -> String {
        format!("fd02:{}::{:x}", self.node, self.pod)
    }
}

/// Ranges of all pods, as kube-proxy wants to know them.
pub const PODS: &str = "10.2.0.0/16,fd02::/16";

const CONTROL_V6: &str = "fd01::10";
const NODES_FROM: u8 = 20;
const PODS_MAX: u8 = 250;
