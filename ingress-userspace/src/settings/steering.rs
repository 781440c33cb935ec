//! Flags of whose packets come past the host's firewall.

use clap::Args;
use ipnet::IpNet;

use super::clients::parse_network;
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

    /// Networks from which connections to HTTP, HTTPS, TCP and UDP service ports may be opened, at
    /// most 4000; others are dropped by the TC program, reset where they come another way (pods,
    /// --datapath host), and counted. Rules of the host's firewall do not apply to ports that are
    /// steered: this does. What counts is the address that packets come from, never what a header
    /// says; loopback is always let in, and connections that are open go on.
    #[arg(
        long,
        env = "SLUICE_FRONTEND_SOURCE_CIDR",
        value_name = "CIDR",
        value_delimiter = ',',
        value_parser = parse_network,
        num_args = 1
    )]
    pub frontend_source_cidr: Vec<IpNet>,
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
