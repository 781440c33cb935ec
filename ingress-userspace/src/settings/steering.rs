//! Flags of whose packets come past the host's firewall.

use clap::Args;

use crate::datapath::PodClients;

/// Flags of whose packets come past the host's firewall.
#[derive(Debug, Args)]
pub struct Steering {
    /// Also steer what pods of this node send to its HTTP, HTTPS and TCP service ports. It then
    /// passes the host's firewall by, and with it what a CNI on iptables or nftables enforces for
    /// pods: egress policies and checks of their source addresses. Without it, pods are served by
    /// the listeners of the host.
    #[arg(long, env = "SLUICE_STEER_POD_CLIENTS")]
    pub steer_pod_clients: bool,
}

impl Steering {
    /// What becomes of new connections from pods of this node.
    pub fn pod_clients(&self) -> PodClients {
        if self.steer_pod_clients {
            PodClients::Steered
        } else {
            PodClients::LeftToHost
        }
    }
}
