//! Networks from which clients may open connections, as the kernel looks them up: by the longest
//! prefix of a 128-bit address, IPv4 mapped into IPv6.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};

use ingress_common::steering::Address;
use ingress_core::plan::to_address;
use ipnet::IpNet;

/// Prefixes (bits and address), and whether who matches them may come in: 1 or 0.
pub(super) type Prefixes = BTreeMap<(u32, Address), u32>;

/// The prefixes of `networks`; none where everybody may come in.
pub(super) fn prefixes(networks: &[IpNet]) -> Prefixes {
    if networks.is_empty() {
        return Prefixes::new();
    }
    // Networks of IPv6, even of all of it, say nothing about IPv4, which is mapped into it.
    let ipv4 = (IPV4_BITS, IPV4.octets());
    let mut prefixes = Prefixes::from([(ipv4, SHUT)]);
    prefixes.extend(networks.iter().map(|network| (prefix(network), OPEN)));
    prefixes
}

pub(super) fn prefix(network: &IpNet) -> (u32, Address) {
    let bits = u32::from(network.prefix_len());
    match network.trunc() {
        IpNet::V4(network) => (IPV4_BITS + bits, to_address(IpAddr::V4(network.addr()))),
        IpNet::V6(network) => (bits, to_address(IpAddr::V6(network.addr()))),
    }
}

const OPEN: u32 = 1;
const SHUT: u32 = 0;
/// `::ffff:0:0/96` (RFC 4291 §2.5.5.2).
pub(super) const IPV4: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0);
pub(super) const IPV4_BITS: u32 = 96;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// What the kernel finds: the value of the longest prefix that the address has.
    fn find(prefixes: &Prefixes, address: IpAddr) -> Option<u32> {
        let address = u128::from_be_bytes(to_address(address));
        let matching = prefixes.iter().filter(|((bits, prefix), _)| {
            let differing = address ^ u128::from_be_bytes(*prefix);
            differing.leading_zeros() >= *bits
        });
        let longest = matching.max_by_key(|((bits, _), _)| *bits);
        longest.map(|(_, value)| *value)
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        // Few different ones, so that networks meet.
        let v4 = (0..4_u32, 0..4_u32).prop_map(|(a, b)| IpAddr::from((a << 30 | b).to_be_bytes()));
        let v6 =
            (0..4_u128, 0..4_u128).prop_map(|(a, b)| IpAddr::from((a << 126 | b).to_be_bytes()));
        prop_oneof![v4, v6]
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        (addresses(), 0..=128_u8).prop_map(|(address, bits)| {
            let bits = if address.is_ipv4() { bits % 33 } else { bits };
            IpNet::new(address, bits).unwrap()
        })
    }

    proptest! {
        #[test]
        fn the_longest_prefix_says_whether_a_network_has_the_address(
            networks in vec(networks(), 1..6),
            address in addresses(),
        ) {
            let is_open = find(&prefixes(&networks), address) == Some(OPEN);
            prop_assert_eq!(is_open, networks.iter().any(|network| network.contains(&address)));
        }
    }

    #[test]
    fn everybody_may_come_in_where_no_network_is_named() {
        assert!(prefixes(&[]).is_empty());
    }

    #[test]
    fn all_of_ipv6_is_not_ipv4() {
        let prefixes = prefixes(&["::/0".parse().unwrap()]);
        assert_eq!(find(&prefixes, [192, 0, 2, 1].into()), Some(SHUT));
        assert_eq!(find(&prefixes, "2001:db8::1".parse().unwrap()), Some(OPEN));
    }
}
