//! From headers to a reason.
//!
//! The invariant: every packet gets exactly one reason; what is not understood or not ours is
//! passed, and a connection stays with the stack that accepted it: inside a connection the sockets
//! of both stacks are asked, never a port alone.

pub mod screen;

use ingress_common::steering::{Address, FragmentedDatagram, Frontend, Settings, Vlan};
use ingress_common::verdict::Reason;

use crate::parse::{End, Fragment, Network, Tag, Transport, protocol};

/// Where clients reach us, wherever it is kept.
pub trait Frontends {
    /// The listener group of a frontend.
    fn frontend(&self, frontend: &Frontend) -> Option<u32>;
}

/// What steer knows besides, wherever it is kept.
pub trait Tables: Frontends {
    /// Whether upstream connections leave from this address.
    fn is_upstream_source(&self, address: &Address) -> bool;
    /// Nanoseconds since the first fragment of this datagram was steered.
    fn first_fragment_age(&self, datagram: &FragmentedDatagram) -> Option<u64>;
    /// The device that the host takes frames with a tag on.
    fn vlan_device(&self, vlan: &Vlan) -> Option<u32>;
    /// Whether somebody at this address may open connections to frontends.
    fn may_connect(&self, source: &Address) -> bool;
    /// Whether a worker listens for this group.
    fn is_listening(&self, group: u32) -> bool;
    /// Whether any connection may belong to a listener of the host.
    fn host_may_have_connections(&self) -> bool;
    /// The TCP socket that a stack has for this very connection, or that listens for it.
    fn socket(&self, stack: Stack, connection: &Connection) -> Option<Socket>;
    /// Whether a listener of the ingress netns has answered this connection's SYN by a cookie that
    /// the packet brings back: a connection that has no socket yet.
    fn brings_cookie(&self, network: &Network, connection: &Connection) -> bool;
}

/// A network stack that sockets may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stack {
    /// The host's.
    Host,
    /// That of the ingress netns.
    Ingress,
}

/// What is taken from a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Replies to upstream connections. What pods themselves begin is judged by the host, whose
    /// policies on egress and against spoofing stand in its netfilter hooks.
    Replies,
    /// What clients send to frontends too.
    ClientsAndReplies,
}

/// A TCP connection, as the node sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Connection {
    /// The other side's end.
    pub remote: End,
    /// The node's end.
    pub local: End,
}

impl End {
    /// The frontend that this end is, if it is one.
    #[inline(always)]
    #[must_use]
    pub const fn frontend(&self, protocol: u8) -> Frontend {
        Frontend {
            address: self.address,
            port: self.port,
            protocol,
            reserved: 0,
        }
    }
}

/// What a stack has for a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Socket {
    /// A listener, which knows nothing of the connection.
    Listening,
    /// The connection, from its SYN on.
    Open,
    /// The connection, which is over in all but name: its client may have begun another with the
    /// same port.
    TimeWait,
}

/// Decides where a packet belongs that came from a device of this scope.
#[inline(always)]
pub fn steer(
    network: &Network,
    transport: &Transport,
    scope: Scope,
    settings: &Settings,
    tables: &impl Tables,
) -> Reason {
    match *transport {
        Transport::Tcp {
            source,
            destination,
            flags,
        } => {
            let connection = Connection {
                remote: End {
                    address: network.source,
                    port: source,
                },
                local: End {
                    address: network.destination,
                    port: destination,
                },
            };
            segment(network, &connection, flags, scope, settings, tables)
        }
        Transport::Udp { destination, .. } => {
            let local = End {
                address: network.destination,
                port: destination,
            };
            match (tables.frontend(&local.frontend(protocol::UDP)), scope) {
                (None, _) => Reason::NotOurs,
                (Some(_), Scope::Replies) => Reason::PodClient,
                (Some(group), Scope::ClientsAndReplies) => opening(network, group, tables),
            }
        }
        Transport::IcmpError {
            protocol,
            local,
            remote,
        } => {
            let quoted = Connection { remote, local };
            icmp_error(protocol, &quoted, scope, settings, tables)
        }
        Transport::None => match datagram(network) {
            Some(key)
                if tables
                    .first_fragment_age(&key)
                    .is_some_and(|age| age < FRAGMENT_AGE_MAX) =>
            {
                Reason::Fragment
            }
            _ => Reason::UnknownFragment,
        },
    }
}

/// Whether the host would take a frame that came in on a device (ifindex) with these tags,
/// outermost first: for each there has to be a device.
#[inline(always)]
pub fn is_taken(ifindex: u32, tags: [Tag; 3], tables: &impl Tables) -> bool {
    let mut parent = ifindex;
    for Tag { ether_type, id } in tags {
        if id == 0 {
            continue;
        }
        let vlan = Vlan {
            parent,
            ether_type,
            id,
        };
        match tables.vlan_device(&vlan) {
            Some(device) => parent = device,
            None => return false,
        }
    }
    true
}

#[inline(always)]
fn segment(
    network: &Network,
    connection: &Connection,
    flags: u8,
    scope: Scope,
    settings: &Settings,
    tables: &impl Tables,
) -> Reason {
    if is_upstream(&connection.local, settings, tables) {
        // The host's NAT may have given the same address and port to a connection of its own:
        // kube-proxy masquerades with random ports from 1024 on.
        return match tables.socket(Stack::Ingress, connection) {
            Some(Socket::Open | Socket::TimeWait) => Reason::Upstream,
            Some(Socket::Listening) | None => Reason::NotOurs,
        };
    }
    match tables.frontend(&connection.local.frontend(protocol::TCP)) {
        None => Reason::NotOurs,
        Some(_) if scope == Scope::Replies => Reason::PodClient,
        Some(group) if flags & (TCP_SYN | TCP_ACK) == TCP_SYN => opening(network, group, tables),
        Some(_) => inside(network, connection, tables),
    }
}

/// A packet that opens a connection: whoever listens gets it, if its sender may connect at all.
#[inline(always)]
fn opening(network: &Network, group: u32, tables: &impl Tables) -> Reason {
    if !tables.may_connect(&network.source) {
        return Reason::ForeignSource;
    }
    if tables.is_listening(group) {
        Reason::Frontend
    } else {
        Reason::NoListener
    }
}

/// A packet inside a connection: whoever has the connection gets it. The port alone says little,
/// for a port from 1024 on may also be that of a masqueraded connection.
#[inline(always)]
fn inside(network: &Network, connection: &Connection, tables: &impl Tables) -> Reason {
    let ours = tables.socket(Stack::Ingress, connection);
    if ours == Some(Socket::Open) {
        return Reason::Frontend;
    }
    if tables.host_may_have_connections()
        && tables.socket(Stack::Host, connection) == Some(Socket::Open)
    {
        return Reason::HostConnection;
    }
    match ours {
        Some(Socket::Open | Socket::TimeWait) => Reason::Frontend,
        Some(Socket::Listening) if tables.brings_cookie(network, connection) => Reason::Frontend,
        Some(Socket::Listening) | None => Reason::NoConnection,
    }
}

/// An ICMP error belongs to whoever has the connection that it quotes, or path-MTU discovery dies:
/// ours without it, somebody else's with it.
#[inline(always)]
fn icmp_error(
    protocol: u8,
    quoted: &Connection,
    scope: Scope,
    settings: &Settings,
    tables: &impl Tables,
) -> Reason {
    let group = match scope {
        Scope::Replies => None,
        Scope::ClientsAndReplies => tables.frontend(&quoted.local.frontend(protocol)),
    };
    let is_ours = if protocol == protocol::TCP {
        (group.is_some() || is_upstream(&quoted.local, settings, tables))
            && matches!(
                tables.socket(Stack::Ingress, quoted),
                Some(Socket::Open | Socket::TimeWait)
            )
    } else {
        // A socket for datagrams is its listener.
        group.is_some_and(|group| tables.is_listening(group))
    };
    if is_ours {
        Reason::IcmpError
    } else {
        Reason::NotOurs
    }
}

/// The datagram that a fragment belongs to; `None` for a whole packet.
#[inline(always)]
pub fn datagram(network: &Network) -> Option<FragmentedDatagram> {
    if network.fragment == Fragment::Whole {
        return None;
    }
    Some(FragmentedDatagram {
        source: network.source,
        destination: network.destination,
        id: network.identity.id,
        protocol: network.identity.protocol,
        reserved: [0; 3],
    })
}

/// Whether this is our end of an upstream connection: a port of the reserved range at an address
/// that such connections leave from.
#[inline(always)]
fn is_upstream(local: &End, settings: &Settings, tables: &impl Tables) -> bool {
    let port = u16::from_be_bytes(local.port);
    port >= settings.upstream_port_min
        && port <= settings.upstream_port_max
        && tables.is_upstream_source(&local.address)
}

/// How long a first fragment is remembered, in nanoseconds: as long as Linux waits for the others of
/// IPv4 (`net.ipv4.ipfrag_time`).
const FRAGMENT_AGE_MAX: u64 = 30_000_000_000;
const TCP_BYTES: usize = 20;
const TCP_FIN: u8 = 0x01;
const TCP_SYN: u8 = 0x02;
const TCP_RST: u8 = 0x04;
const TCP_PSH: u8 = 0x08;
const TCP_ACK: u8 = 0x10;
const TCP_URG: u8 = 0x20;
const TCP_FLAGS: u8 = 0x3f;

#[cfg(test)]
mod tests;
