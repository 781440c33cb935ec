//! What programs remember of packets, so that the next one of its kind costs no lookup.
//!
//! An entry counts until its time is over, and only while nothing has changed meanwhile: user space
//! advances the epoch (the only value of the `EPOCH` map) whenever the kernel reports another route, rule,
//! address, device or neighbour.

use crate::abi::abi;

/// Next hops that each CPU remembers; a power of two.
pub const NEXT_HOPS_MAX: u32 = 1024;

/// Connections that each CPU remembers; a power of two.
pub const STEERED_CONNECTIONS_MAX: u32 = 2048;

/// Nanoseconds for which an entry counts: the bound on the use of an entry that user space has not
/// heard about, and the interval at which the kernel sees that a neighbour is in use.
pub const LIFETIME_NS: u64 = 1_000_000_000;

abi! {
    /// Where packets between two addresses go: value of the `NEXT_HOPS` map. Addresses are in network
    /// byte order in memory, IPv4 is mapped.
    pub struct NextHop {
        /// Source address of the packets.
        pub source: [u64; 2],
        /// Destination address of the packets.
        pub destination: [u64; 2],
        /// When the entry ends: coarse `CLOCK_MONOTONIC`, in nanoseconds.
        pub until: u64,
        /// The epoch that it was looked up in.
        pub epoch: u32,
        /// The device (ifindex) that the packets leave through.
        pub ifindex: u32,
        /// IP protocol number of the packets.
        pub protocol: u16,
        /// MTU of the device, in bytes.
        pub mtu: u16,
        /// The link-layer addresses of their Ethernet headers: destination, then source.
        pub macs: [u32; 3],
    }

    /// A TCP connection whose packets the ingress netns gets: value of the `STEERED_CONNECTIONS` map.
    pub struct SteeredConnection {
        /// Address of the other side.
        pub remote: [u64; 2],
        /// Address of the node.
        pub local: [u64; 2],
        /// When the entry ends: coarse `CLOCK_MONOTONIC`, in nanoseconds.
        pub until: u64,
        /// Both ports in network byte order in memory, the other side's first.
        pub ports: u32,
        /// The device (ifindex) that the packets come in on.
        pub ifindex: u32,
        /// The epoch that it was looked up in.
        pub epoch: u32,
        /// Why the ingress netns gets them: a `Reason`.
        pub reason: u32,
    }
}
