//! From headers to a verdict.
//!
//! The invariant: every packet gets exactly one reason; what is not understood or not ours is
//! passed, and only a malformed TCP packet to one of our frontends is ever dropped.

use ingress_common::steering::{Address, FragmentedDatagram, Frontend, Settings};
use ingress_common::verdict::Reason;

use crate::packet::Packet;
use crate::parse::{self, Fragment, Network, Transport, Version, protocol};

/// What the programs know, wherever it is kept.
pub trait Tables {
    /// The listener group of a frontend.
    fn frontend(&self, frontend: &Frontend) -> Option<u32>;
    /// Whether upstream connections leave from this address.
    fn is_upstream_source(&self, address: &Address) -> bool;
    /// Whether the first fragment of this datagram was steered.
    fn is_steered_datagram(&self, datagram: &FragmentedDatagram) -> bool;
}

/// Where a packet belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To a frontend: a listener of this group, or a connection accepted from it.
    Frontend {
        /// Listener group.
        group: u32,
        /// Whether it opens a connection (TCP SYN without ACK, any UDP).
        opens: bool,
    },
    /// To our end of an upstream connection, if there is one for this packet: the host's NAT may
    /// have given the same address and port to a connection of its own (kube-proxy masquerades
    /// with random ports from 1024 on).
    Upstream,
    /// Into the ingress netns, whoever listens; the reason says why.
    Ingress(Reason),
    /// To the host stack; the reason says why.
    Host(Reason),
}

/// Decides where a packet belongs.
#[inline(always)]
pub fn steer(
    network: &Network,
    transport: &Transport,
    settings: &Settings,
    tables: &impl Tables,
) -> Destination {
    match *transport {
        Transport::Tcp {
            destination, flags, ..
        } => {
            let opens = flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            flow(network, destination, opens, settings, tables)
        }
        Transport::Udp { destination, .. } => flow(network, destination, true, settings, tables),
        Transport::IcmpError {
            protocol,
            source,
            port,
        } => {
            let quoted = Frontend {
                address: source,
                port,
                protocol,
                reserved: 0,
            };
            if tables.frontend(&quoted).is_some() || is_upstream(&quoted, settings, tables) {
                Destination::Ingress(Reason::IcmpError)
            } else {
                Destination::Host(Reason::NotOurs)
            }
        }
        Transport::None => match datagram(network) {
            Some(key) if tables.is_steered_datagram(&key) => Destination::Ingress(Reason::Fragment),
            _ => Destination::Host(Reason::UnknownFragment),
        },
    }
}

/// The datagram that a fragment belongs to; `None` for a whole packet.
#[inline(always)]
pub fn datagram(network: &Network) -> Option<FragmentedDatagram> {
    let (Fragment::First(id) | Fragment::Later(id)) = network.fragment else {
        return None;
    };
    Some(FragmentedDatagram {
        source: network.source,
        destination: network.destination,
        id,
        protocol: match network.version {
            Version::V4 => network.protocol,
            // Only the first fragment says what the whole datagram carries (RFC 8200 §4.5).
            Version::V6 => 0,
        },
        reserved: [0; 3],
    })
}

/// Decides whether a packet is so malformed that no stack should see it.
///
/// Only TCP to our own frontends is judged: what is not ours passes untouched.
#[inline(always)]
pub fn guard<P: Packet + ?Sized>(packet: &P, tables: &impl Tables) -> Reason {
    match parse::link(packet).and_then(|link| parse::network(packet, link)) {
        Ok(network) if network.protocol == protocol::TCP => tcp(packet, &network, tables),
        Ok(_) => Reason::Accepted,
        Err(reason) => reason,
    }
}

#[inline(always)]
fn tcp<P: Packet + ?Sized>(packet: &P, network: &Network, tables: &impl Tables) -> Reason {
    if let Fragment::Later(_) = network.fragment {
        return Reason::Accepted;
    }
    let Some(head) = packet.load::<14>(network.payload) else {
        return Reason::Unparsable;
    };
    let Some(fault) = tcp_fault(packet, network, head) else {
        return Reason::Accepted;
    };
    let frontend = Frontend {
        address: network.destination,
        port: [head[2], head[3]],
        protocol: protocol::TCP,
        reserved: 0,
    };
    if tables.frontend(&frontend).is_some() {
        fault
    } else {
        Reason::NotOurs
    }
}

#[inline(always)]
fn tcp_fault<P: Packet + ?Sized>(packet: &P, network: &Network, head: [u8; 14]) -> Option<Reason> {
    let flags = head[13];
    if flags & TCP_SYN != 0 && flags & (TCP_FIN | TCP_RST) != 0 {
        return Some(Reason::TcpSynFin);
    }
    if flags & (TCP_FIN | TCP_PSH | TCP_URG) == TCP_FIN | TCP_PSH | TCP_URG {
        return Some(Reason::TcpXmas);
    }
    if flags & TCP_FLAGS == 0 {
        return Some(Reason::TcpNull);
    }
    if head[0] == 0 && head[1] == 0 {
        return Some(Reason::TcpPortZero);
    }
    let header_bytes = usize::from(head[12] >> 4) * 4;
    if header_bytes < TCP_BYTES {
        return Some(Reason::TcpHeaderLength);
    }
    // The header of a first fragment may go on in the next one.
    let last_byte = network.payload + header_bytes - 1;
    if let Fragment::Whole = network.fragment
        && packet.load::<1>(last_byte).is_none()
    {
        return Some(Reason::TcpHeaderLength);
    }
    None
}

#[inline(always)]
fn flow(
    network: &Network,
    port: [u8; 2],
    opens: bool,
    settings: &Settings,
    tables: &impl Tables,
) -> Destination {
    let frontend = Frontend {
        address: network.destination,
        port,
        protocol: network.protocol,
        reserved: 0,
    };
    if is_upstream(&frontend, settings, tables) {
        return Destination::Upstream;
    }
    match tables.frontend(&frontend) {
        Some(group) => Destination::Frontend { group, opens },
        None => Destination::Host(Reason::NotOurs),
    }
}

/// Whether this is our end of an upstream connection: a port of the reserved range at an address
/// that such connections leave from.
#[inline(always)]
fn is_upstream(local: &Frontend, settings: &Settings, tables: &impl Tables) -> bool {
    let port = u16::from_be_bytes(local.port);
    port >= settings.upstream_port_min
        && port <= settings.upstream_port_max
        && local.protocol == protocol::TCP
        && tables.is_upstream_source(&local.address)
}

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
