//! Keys and values that decide which packets enter the ingress network namespace.

use crate::abi::abi;

/// An IPv6 address, or an IPv4 address mapped into `::ffff:0:0/96` (RFC 4291 §2.5.5.2), in
/// network byte order.
pub type Address = [u8; 16];

/// Maps an IPv4 address in network byte order into `::ffff:0:0/96`.
#[inline(always)]
#[must_use]
pub const fn mapped(v4: [u8; 4]) -> Address {
    // Built as one number: LLVM zeroes the bytes of an array by a loop, which eBPF runs for each packet.
    (0xffff_0000_0000 | u32::from_be_bytes(v4) as u128).to_be_bytes()
}

/// Networks that the `SOURCES` map has room for.
pub const SOURCES_MAX: u32 = 4096;

/// Entries that the `VLANS` map has room for.
pub const VLANS_MAX: u32 = 4096;

/// Value of the `STEERED_DEVICES` map: replies to upstream connections are taken from the device.
pub const REPLIES: u32 = 1;

/// Value of the `STEERED_DEVICES` map: what clients send to frontends is taken too.
pub const CLIENTS_AND_REPLIES: u32 = 2;

abi! {
    /// Where clients reach us: key of the `FRONTENDS` map.
    pub struct Frontend {
        /// Destination address of the packet.
        pub address: Address,
        /// Destination port, network byte order.
        pub port: [u8; 2],
        /// IP protocol number: 6 TCP, 17 UDP.
        pub protocol: u8,
        /// Always 0.
        pub reserved: u8,
    }

    /// What every program has to know about this node: the one value of the `SETTINGS` map.
    pub struct Settings {
        /// Host side of the gate; 0 while nothing may be steered.
        pub gate_ifindex: u32,
        /// Workers that have listening sockets, at most [`crate::socket::WORKERS_MAX`].
        pub workers: u32,
        /// First port (host byte order) of upstream connections made in the ingress netns.
        pub upstream_port_min: u16,
        /// Last port (host byte order) of them.
        pub upstream_port_max: u16,
        /// Id of the ingress netns, as seen from the host's.
        pub ingress_netns: u32,
        /// What nobody else knows, for the choice of workers.
        pub hash_key: [u32; 2],
        /// Whether only the networks of the `SOURCES` map may open connections: 1 or 0.
        pub restricts_sources: u32,
    }

    /// A fragmented datagram of a steered flow: key of the `FRAGMENTS` map.
    pub struct FragmentedDatagram {
        /// Source address.
        pub source: Address,
        /// Destination address.
        pub destination: Address,
        /// Identification, network byte order; IPv4 uses the last two bytes.
        pub id: [u8; 4],
        /// IP protocol number that every fragment tells: in IPv6 that of its first header that is
        /// cut, which may be an extension header.
        pub protocol: u8,
        /// Always 0.
        pub reserved: [u8; 3],
    }

    /// A tag on frames of a device: key of the `VLANS` map, whose value is the device (ifindex)
    /// that the host takes them on.
    pub struct Vlan {
        /// The device (ifindex) that the tagged frames come in on.
        pub parent: u32,
        /// `EtherType` of the tag, host byte order: 0x8100 or 0x88a8.
        pub ether_type: u16,
        /// VLAN identifier, host byte order.
        pub id: u16,
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn ipv4_is_mapped_as_the_standard_library_maps_it() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        assert_eq!(mapped(address.octets()), address.to_ipv6_mapped().octets());
    }
}
