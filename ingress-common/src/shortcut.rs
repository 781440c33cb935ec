//! Keys and values of the shortcut, which carries bytes between the proxy and pods of this node from
//! socket to socket.

use crate::abi::abi;
use crate::steering::Address;

/// Endpoints of this node that the shortcut has room for.
pub const SHORTCUT_ENDPOINTS_MAX: u32 = 16_384;

/// Connections that the shortcut has room for; further ones stay on TCP.
pub const SHORTCUT_FLOWS_MAX: u32 = 65_536;

/// The number of SYN retransmits (`TCP_SYNCNT`) of an enrolled socket of the proxy. It has no effect
/// on an established connection, and `getsockopt(2)` shows it to the process that has the socket.
pub const ENROLLED_SYN_RETRIES: i32 = 113;

/// The priority (`SO_PRIORITY`) of a socket of the proxy while what it sends may take the shortcut.
pub const SHORTCUT_PRIORITY: u32 = 5;

abi! {
    /// A connection between the proxy and an endpoint: key of the `SHORTCUT_FLOWS` map and of both
    /// maps of sockets.
    pub struct Flow {
        /// Address of the pod.
        pub pod: Address,
        /// Address that the proxy connects from.
        pub proxy: Address,
        /// Port of the pod, network byte order.
        pub pod_port: [u8; 2],
        /// Port of the proxy, network byte order.
        pub proxy_port: [u8; 2],
    }

    /// The sockets of a connection: value of the `SHORTCUT_FLOWS` map. They are addresses in the
    /// kernel, which are only ever read from by a helper that takes any address.
    pub struct FlowSockets {
        /// The proxy's.
        pub proxy: u64,
        /// The pod's; 0 before it is enrolled.
        pub pod: u64,
    }

    /// An endpoint on this node: key of the `SHORTCUT_ENDPOINTS` map.
    pub struct LocalEndpoint {
        /// Address of the pod.
        pub address: Address,
        /// Port of the pod, network byte order.
        pub port: [u8; 2],
        /// Always 0.
        pub reserved: [u8; 2],
    }

    /// The settings of the shortcut's programs: the only value of the `SHORTCUT_SETTINGS` map.
    pub struct ShortcutSettings {
        /// Cookie of the network namespace that the proxy's connections are made in; 0 while no
        /// connection may be enrolled.
        pub proxy_netns: u64,
        /// Where a TCP socket of this kernel has its state.
        pub state_offset: u32,
        /// Where it has the sequence number after the last byte that was given to TCP.
        pub written_offset: u32,
        /// Where it has the sequence number of the next byte that its owner reads.
        pub read_offset: u32,
        /// Where it has the number of bytes that were received and not read.
        pub unread_offset: u32,
        /// Whether anything is redirected: 1 or 0.
        pub redirects: u32,
        /// Always 0.
        pub reserved: u32,
    }
}
