//! Which addresses are one client, where clients have shares of something.

use std::net::IpAddr;

/// Addresses that are one client: one of IPv4, 64 bits of IPv6, which is the least that a network
/// is given (RFC 6177 §2). Those of IPv4 are mapped (RFC 4291 §2.5.5.2), where no network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ClientGroup(u64);

impl ClientGroup {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self(MAPPED | u64::from(address.to_bits())),
            IpAddr::V6(address) => Self((address.to_bits() >> 64) as u64),
        }
    }
}

const MAPPED: u64 = 0xffff << 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_an_address_or_a_network_of_64_bits() {
        let group = |text: &str| ClientGroup::of(text.parse().unwrap());
        assert_eq!(group("192.0.2.1"), group("::ffff:192.0.2.1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
        assert_eq!(group("2001:db8:0:1::1"), group("2001:db8:0:1:ffff::2"));
        assert_ne!(group("2001:db8:0:1::1"), group("2001:db8:0:2::1"));
        assert_ne!(group("::1"), group("0.0.0.0"));
    }
}
