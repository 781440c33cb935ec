//! What the guard drops: malformed TCP, denied networks, and new connections beyond the budget of
//! their source.
//!
//! Only what is addressed to our own frontends is judged: what is not ours passes untouched.

use ingress_common::steering::Address;
use ingress_common::verdict::Reason;

use super::{
    Frontends, TCP_ACK, TCP_BYTES, TCP_FIN, TCP_FLAGS, TCP_PSH, TCP_RST, TCP_SYN, TCP_URG,
};
use crate::head::Linear;
use crate::packet::Packet;
use crate::parse::{self, End, Fragment, Network, protocol};
use crate::plain;

/// What the guard knows besides frontends, wherever it is kept.
pub trait Lists: Frontends {
    /// Whether the network of this address is denied.
    fn is_denied(&self, source: &Address) -> bool;
    /// Takes one connection out of the budget of a source; false if the budget is used up. Without
    /// budgets it is always true.
    fn takes_connection(&self, source: &Address) -> bool;
}

/// Decides whether a packet is one that no stack should see.
#[inline(always)]
pub fn guard<P: Packet + ?Sized>(packet: &P, lists: &impl Lists) -> Reason {
    match parse::link(packet).and_then(|link| parse::network(packet, link)) {
        Ok(network) => match network.protocol {
            protocol::TCP => tcp(packet, &network, lists),
            protocol::UDP => udp(packet, &network, lists),
            _ => Reason::Accepted,
        },
        Err(reason) => reason,
    }
}

/// Whether a packet is a sound segment inside a connection, which passes unless its source is denied. What
/// looks special is not, and left to [`guard`].
#[inline(always)]
pub fn is_ordinary<P: Linear + ?Sized>(packet: &P) -> bool {
    let Some(segment) = plain::segment(packet) else {
        return false;
    };
    let flags = segment.flags & TCP_FLAGS;
    let is_xmas = flags & (TCP_FIN | TCP_PSH | TCP_URG) == TCP_FIN | TCP_PSH | TCP_URG;
    let [a, b, ..] = segment.ports.to_ne_bytes();
    flags & TCP_SYN == 0
        && flags != 0
        && !is_xmas
        && (a, b) != (0, 0)
        && segment.tcp_bytes >= TCP_BYTES
        && segment.header_bytes <= packet.linear_bytes()
}

#[inline(always)]
fn tcp<P: Packet + ?Sized>(packet: &P, network: &Network, lists: &impl Lists) -> Reason {
    if network.fragment == Fragment::Later {
        return Reason::Accepted;
    }
    let Some(head) = packet.load::<14>(network.payload) else {
        return Reason::Unparsable;
    };
    let fault = tcp_fault(packet, network, head);
    let is_denied = lists.is_denied(&network.source);
    let is_opening = head[13] & (TCP_SYN | TCP_ACK) == TCP_SYN;
    if fault.is_none() && !is_denied && !is_opening {
        return Reason::Accepted;
    }
    if !is_frontend(network, [head[2], head[3]], protocol::TCP, lists) {
        return Reason::NotOurs;
    }
    match fault {
        Some(fault) => fault,
        None if is_denied => Reason::Denied,
        None if lists.takes_connection(&network.source) => Reason::Opening,
        None => Reason::OverBudget,
    }
}

#[inline(always)]
fn udp<P: Packet + ?Sized>(packet: &P, network: &Network, lists: &impl Lists) -> Reason {
    if network.fragment == Fragment::Later {
        return Reason::Accepted;
    }
    if !lists.is_denied(&network.source) {
        return Reason::Accepted;
    }
    match packet.load::<4>(network.payload) {
        None => Reason::Unparsable,
        Some([_, _, a, b]) if is_frontend(network, [a, b], protocol::UDP, lists) => Reason::Denied,
        Some(_) => Reason::NotOurs,
    }
}

#[inline(always)]
fn is_frontend(network: &Network, port: [u8; 2], protocol: u8, lists: &impl Lists) -> bool {
    let local = End {
        address: network.destination,
        port,
    };
    lists.frontend(&local.frontend(protocol)).is_some()
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
    if network.fragment == Fragment::Whole && packet.load::<1>(last_byte).is_none() {
        return Some(Reason::TcpHeaderLength);
    }
    None
}
