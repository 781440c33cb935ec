//! The settings of the datapath, as the daemon sends them to its helper process.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::attach::{GuardMode, TcMode};
use super::denied::SourceBudget;
use super::devices::PodClients;
use super::gate::PortRange;
use super::shortcut::ShortcutMode;

/// The settings of the datapath.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    /// Directory in bpffs for maps and links.
    pub bpffs: PathBuf,
    /// Name of the ingress netns, a file in `/run/netns`.
    pub netns: String,
    /// Name of the host side of the gate.
    pub gate: String,
    /// Devices through which clients reach the node; none given: those of the default routes.
    pub uplinks: Vec<String>,
    /// The device that is given to the ingress netns as a whole.
    pub uplink_in_netns: Option<String>,
    /// Addresses by which the cluster reaches the node: a device that has one stays in the host.
    pub node_addresses: Vec<IpAddr>,
    /// Destination addresses to steer besides those of the uplinks and of `lo`.
    pub addresses: Vec<IpAddr>,
    /// How to attach the guard.
    pub guard: GuardMode,
    /// How to attach steer and `return_path`.
    pub tc: TcMode,
    /// What becomes of new connections from pods of this node.
    pub pod_clients: PodClients,
    /// Networks from which connections may be opened; none given: from everywhere.
    pub sources: Vec<IpNet>,
    /// Local ports of upstream connections.
    pub upstream_ports: PortRange,
    /// Number of workers.
    pub workers: u32,
    /// Whether bytes to and from pods of this node take the shortcut.
    pub shortcut: ShortcutMode,
    /// New connections that one source may open.
    pub source_budget: SourceBudget,
    /// New connections a second of all sources, from which on the guard answers SYNs; 0: never.
    pub flood_threshold: u32,
}
