//! Addresses of the node: which of them clients reach it by, and which connections to endpoints leave from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::netlink::DeviceAddress;

/// An address that clients reach this node by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrontendAddress {
    /// The address.
    pub address: IpAddr,
    /// The device that has it, or the flag that names it.
    pub given_by: String,
}

/// The addresses that upstream connections leave from.
///
/// The invariant: they stay as long as the node has them. A virtual address that comes must not take
/// their place (the kernel lists the newest IPv6 address first), or replies of endpoints would follow
/// it to another node.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Sources {
    /// Follows the addresses of the uplinks.
    pub(super) fn follow(&mut self, addresses: &[DeviceAddress]) {
        let has = |ip: IpAddr| addresses.iter().any(|address| address.ip == ip);
        let rank = |address: &&DeviceAddress| (address.is_deprecated, !address.has_network);
        let v4 = addresses.iter().filter(|address| address.ip.is_ipv4());
        let v6 = addresses.iter().filter(|address| address.ip.is_ipv6());
        if !self.v4.is_some_and(|ip| has(ip.into())) {
            self.v4 = v4.min_by_key(rank).and_then(|address| match address.ip {
                IpAddr::V4(ip) => Some(ip),
                IpAddr::V6(_) => None,
            });
        }
        if !self.v6.is_some_and(|ip| has(ip.into())) {
            self.v6 = v6.min_by_key(rank).and_then(|address| match address.ip {
                IpAddr::V6(ip) => Some(ip),
                IpAddr::V4(_) => None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(ip: &str, has_network: bool) -> DeviceAddress {
        DeviceAddress {
            device: 2,
            ip: ip.parse().unwrap(),
            has_network,
            is_deprecated: false,
        }
    }

    #[test]
    fn a_virtual_address_that_comes_takes_no_connections_to_endpoints() {
        let own = [address("10.0.0.1", true), address("2001:db8::1", true)];
        let mut sources = Sources::default();
        sources.follow(&own);
        let chosen = (sources.v4, sources.v6);
        assert_eq!(
            chosen,
            (Some([10, 0, 0, 1].into()), "2001:db8::1".parse().ok())
        );
        // The kernel lists the newest IPv6 address first.
        let with_vip = [
            address("2001:db8::8", true),
            own[1],
            own[0],
            address("10.0.0.8", true),
        ];
        sources.follow(&with_vip);
        assert_eq!((sources.v4, sources.v6), chosen);
        sources.follow(&[with_vip[0], with_vip[3]]);
        let moved = (Some([10, 0, 0, 8].into()), "2001:db8::8".parse().ok());
        assert_eq!((sources.v4, sources.v6), moved, "the node's own are gone");
        sources.follow(&[]);
        assert_eq!((sources.v4, sources.v6), (None, None));
    }

    #[test]
    fn a_daemon_that_starts_beside_a_virtual_address_prefers_the_nodes_own() {
        let deprecated = DeviceAddress {
            is_deprecated: true,
            ..address("2001:db8::7", true)
        };
        let mut sources = Sources::default();
        sources.follow(&[
            address("2001:db8::8", false),
            deprecated,
            address("2001:db8::1", true),
            address("10.0.0.8", false),
        ]);
        assert_eq!(sources.v6, "2001:db8::1".parse().ok());
        assert_eq!(sources.v4, Some([10, 0, 0, 8].into()), "there is no other");
    }
}
