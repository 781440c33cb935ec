//! Networks whose clients may not connect at all, in a form that is quick to ask.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::ir::{Block, Config, Filter, Rule};

/// A set of networks, as ranges of addresses that do not touch. Networks of IPv6, even all of it, say
/// nothing about IPv4; a client of an IPv6 socket that has an IPv4 address counts as that (RFC 4291
/// §2.5.5.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    /// First and last address of each, in order.
    ranges: Box<[(Position, Position)]>,
}

impl DenyList {
    /// The list of these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut ranges: Vec<_> = networks.into_iter().map(range).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(Position, Position)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= next(*end) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self {
            ranges: merged.into(),
        }
    }

    /// Whether no client is denied.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether a client at this address may not connect.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = position(address.to_canonical());
        let after = self.ranges.partition_point(|(first, _)| *first <= address);
        let range = after.checked_sub(1).and_then(|at| self.ranges.get(at));
        range.is_some_and(|(_, last)| address <= *last)
    }
}

/// The networks that every rule of a configuration blocks, so that their clients get nothing at all.
///
/// None where something is served to clients without a rule: streams and datagrams.
pub fn blocked_everywhere(config: &Config) -> Vec<IpNet> {
    let mut hosts = config.hosts.values();
    let serves_streams = !config.tcp_services.is_empty()
        || !config.udp_services.is_empty()
        || hosts.any(|host| host.passthrough.is_some());
    if serves_streams {
        return Vec::new();
    }
    let rules = config.hosts.values().flat_map(|host| &host.rules);
    let mut common: Option<Vec<IpNet>> = None;
    // Rules of one class share what they block.
    let mut last: Option<&Arc<Block>> = None;
    for rule in rules.chain(&config.default_backend) {
        let Some(block) = block(rule) else {
            return Vec::new();
        };
        if last.is_some_and(|last| last.networks == block.networks) {
            continue;
        }
        match &mut common {
            None => common = Some(block.networks.to_vec()),
            Some(common) => common.retain(|network| block.networks.contains(network)),
        }
        last = Some(block);
    }
    common.unwrap_or_default()
}

fn block(rule: &Rule) -> Option<&Arc<Block>> {
    rule.policy.filters.iter().find_map(|filter| {
        if let Filter::Block(block) = filter {
            Some(block)
        } else {
            None
        }
    })
}

/// Whether two networks have an address in common.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

/// An address among all of both families: IPv4 comes first.
type Position = (bool, u128);

fn range(network: IpNet) -> (Position, Position) {
    (position(network.network()), position(network.broadcast()))
}

fn position(address: IpAddr) -> Position {
    match address {
        IpAddr::V4(address) => (false, address.to_bits().into()),
        IpAddr::V6(address) => (true, address.to_bits()),
    }
}

fn next((is_v6, number): Position) -> Position {
    (is_v6, number.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn addresses() -> impl Strategy<Value = IpAddr> {
        // Few different ones, so that networks meet.
        let v4 = (0..4_u32, 0..3_u32).prop_map(|(a, b)| IpAddr::from((a << 30 | b).to_be_bytes()));
        let v6 = (1..4_u128, 0..3_u128).prop_map(|(a, b)| Ipv6Addr::from_bits(a << 126 | b).into());
        prop_oneof![v4, v6]
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        (addresses(), 0..=128_u8).prop_map(|(address, bits)| match address {
            IpAddr::V4(_) => IpNet::new(address, bits % 33).unwrap(),
            IpAddr::V6(_) => IpNet::new(address, bits.max(1)).unwrap(),
        })
    }

    proptest! {
        #[test]
        fn list_has_the_addresses_of_its_networks(
            networks in vec(networks(), 0..6),
            address in addresses(),
        ) {
            let list = DenyList::new(networks.clone());
            let expected = networks.iter().any(|network| network.contains(&address));
            prop_assert_eq!(list.contains(address), expected, "{:?}", networks);
        }

        #[test]
        fn networks_overlap_that_have_an_address_in_common(one in networks(), other in networks()) {
            let first = [one.network(), other.network()];
            let common = first.iter().any(|at| one.contains(at) && other.contains(at));
            prop_assert_eq!(overlap(&one, &other), common);
        }
    }

    #[test]
    fn ipv4_client_of_an_ipv6_socket_is_known_by_its_mapped_address() {
        let list = DenyList::new(["192.0.2.0/24".parse().unwrap()]);
        assert!(list.contains("::ffff:192.0.2.7".parse().unwrap()));
        assert!(!list.contains("192.0.3.1".parse().unwrap()));
        assert!(DenyList::new([]).is_empty());
        let all_of_ipv6 = DenyList::new(["::/0".parse().unwrap()]);
        assert!(!all_of_ipv6.contains("::ffff:192.0.2.7".parse().unwrap()));
        assert!(all_of_ipv6.contains("2001:db8::1".parse().unwrap()));
    }
}
