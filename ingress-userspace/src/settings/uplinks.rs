//! Flags of the devices through which clients come.

use std::net::{IpAddr, SocketAddr};

use clap::Args;

/// The devices through which clients come.
#[derive(Debug, Args)]
pub struct Uplinks {
    /// Device through which clients come; may be given more than once [default: the devices of
    /// the default routes].
    #[arg(
        long = "uplink",
        env = "SLUICE_UPLINK",
        value_name = "DEVICE",
        value_delimiter = ','
    )]
    pub devices: Vec<String>,

    /// Device that is given to the ingress network namespace as a whole, with its addresses and routes: a
    /// network card for clients alone. Its packets meet no program but the guard, and no netfilter hook. The
    /// host does without it: it is refused if it has the host's only default route or --node-address, or
    /// belongs to a bridge or bond. It goes back to the host when the daemon ends or by `sluice detach`; after
    /// a crash the next daemon adopts it.
    #[arg(long, env = "SLUICE_UPLINK_IN_NETNS", value_name = "DEVICE")]
    pub uplink_in_netns: Option<String>,

    /// Address by which the cluster reaches this node, its internal address; may be given more than once. A device
    /// that has it is not given to --uplink-in-netns.
    #[arg(
        long = "node-address",
        env = "SLUICE_NODE_ADDRESS",
        value_name = "IP",
        value_delimiter = ','
    )]
    pub node_addresses: Vec<IpAddr>,
}

impl Uplinks {
    /// Addresses by which the cluster reaches the node: those of the flag, and the one for metrics.
    pub fn node_addresses(&self, metrics: Option<SocketAddr>) -> Vec<IpAddr> {
        let metrics = metrics.map(|metrics| metrics.ip());
        let metrics = metrics.filter(|ip| !ip.is_loopback() && !ip.is_unspecified());
        self.node_addresses.iter().copied().chain(metrics).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_of_metrics_is_an_address_of_the_node() {
        let uplinks = Uplinks {
            devices: Vec::new(),
            uplink_in_netns: None,
            node_addresses: vec![[10, 0, 0, 1].into()],
        };
        let with = |metrics: &str| uplinks.node_addresses(Some(metrics.parse().unwrap())).len();
        assert_eq!(with("10.0.0.2:10254"), 2);
        assert_eq!(with("127.0.0.1:10254"), 1);
        assert_eq!(with("[::]:10254"), 1);
    }
}
