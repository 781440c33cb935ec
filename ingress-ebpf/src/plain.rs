//! Plain packets, which nearly all are: headers at the usual places, without tags, options or fragments.
//!
//! The invariant: what is read here is what `parse` reads; what is not plain is `None`, and left to it.

use ingress_common::cache::{NEXT_HOPS_MAX, STEERED_CONNECTIONS_MAX};

use crate::head::{Head, Linear};
use crate::parse::protocol;

/// A TCP segment without anything special before TCP. Addresses are in network byte order in memory, IPv4
/// is mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Source address.
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// Both ports in network byte order in memory, the source port first.
    pub ports: u32,
    /// Bytes from the Ethernet header to the end of TCP's options, as TCP has it.
    pub header_bytes: usize,
    /// The length of the TCP header with its options, in bytes.
    pub tcp_bytes: usize,
    /// The flags byte: CWR ECE URG ACK PSH RST SYN FIN.
    pub flags: u8,
}

impl Segment {
    /// Whether it is a SYN, or the answer to one.
    #[inline(always)]
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & SYN != 0
    }

    /// Where steer's table of connections has this one.
    #[inline(always)]
    #[must_use]
    pub fn slot(&self, key: [u32; 2]) -> u32 {
        let [[a, b], [c, d]] = [self.source, self.destination];
        slot(
            [a, b, c, d ^ u64::from(self.ports)],
            key,
            STEERED_CONNECTIONS_MAX,
        )
    }
}

/// Reads a segment.
#[inline(always)]
pub fn segment<P: Linear + ?Sized>(packet: &P) -> Option<Segment> {
    let head: Head<'_, IPV4_TCP> = packet.head()?;
    match head.half::<12>() {
        IPV4 => segment_v4(&head),
        IPV6 => segment_v6(&packet.head()?),
        _ => None,
    }
}

#[inline(always)]
fn segment_v4(head: &Head<'_, IPV4_TCP>) -> Option<Segment> {
    // The bit that forbids fragments says nothing about this packet.
    let fragment = head.half::<20>() & !DO_NOT_FRAGMENT;
    if head.byte::<14>() != VERSION_4 || fragment != 0 || head.byte::<23>() != protocol::TCP {
        return None;
    }
    let tcp_bytes = usize::from(head.byte::<46>() >> 4) * 4;
    Some(Segment {
        source: mapped(head.word::<26>()),
        destination: mapped(head.word::<30>()),
        ports: head.word::<34>(),
        header_bytes: 34 + tcp_bytes,
        tcp_bytes,
        flags: head.byte::<47>(),
    })
}

#[inline(always)]
fn segment_v6(head: &Head<'_, IPV6_TCP>) -> Option<Segment> {
    if head.byte::<14>() >> 4 != 6 || head.byte::<20>() != protocol::TCP {
        return None;
    }
    let tcp_bytes = usize::from(head.byte::<66>() >> 4) * 4;
    Some(Segment {
        source: [head.long::<22>(), head.long::<30>()],
        destination: [head.long::<38>(), head.long::<46>()],
        ports: head.word::<54>(),
        header_bytes: 54 + tcp_bytes,
        tcp_bytes,
        flags: head.byte::<67>(),
    })
}

/// What a router reads of a packet, whose options and fragments are the same to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routed {
    /// Source address, as in [`Segment`].
    pub source: [u64; 2],
    /// Destination address.
    pub destination: [u64; 2],
    /// IP protocol number that the IP header itself has.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// The checksum of an IPv4 header, as it is in memory; IPv6 has none.
    pub checksum: Option<u16>,
}

impl Routed {
    /// Where `return_path`'s table has the next hop between these addresses.
    #[inline(always)]
    #[must_use]
    pub fn slot(&self, key: [u32; 2]) -> u32 {
        let [[a, b], [c, d]] = [self.source, self.destination];
        slot([a, b, c, d], key, NEXT_HOPS_MAX)
    }
}

/// Reads what a router needs of a packet.
#[inline(always)]
pub fn routed<P: Linear + ?Sized>(packet: &P) -> Option<Routed> {
    let head: Head<'_, IPV4_ALONE> = packet.head()?;
    match head.half::<12>() {
        IPV4 if head.byte::<14>() >> 4 == 4 => Some(Routed {
            source: mapped(head.word::<26>()),
            destination: mapped(head.word::<30>()),
            protocol: head.byte::<23>(),
            ttl: head.byte::<22>(),
            checksum: Some(head.half::<24>()),
        }),
        IPV6 => routed_v6(&packet.head()?),
        _ => None,
    }
}

#[inline(always)]
fn routed_v6(head: &Head<'_, IPV6_ALONE>) -> Option<Routed> {
    if head.byte::<14>() >> 4 != 6 {
        return None;
    }
    Some(Routed {
        source: [head.long::<22>(), head.long::<30>()],
        destination: [head.long::<38>(), head.long::<46>()],
        protocol: head.byte::<20>(),
        ttl: head.byte::<21>(),
        checksum: None,
    })
}

/// The checksum of an IPv4 header whose time to live was decremented by one, as it is in memory
/// (RFC 1624; `ip_decrease_ttl` of Linux).
#[inline(always)]
#[must_use]
pub const fn older(checksum: u16) -> u16 {
    let (sum, is_carried) = u16::from_be(checksum).overflowing_add(0x100);
    // A checksum has two zeros; the sum of ones' complements is never the positive one.
    if is_carried || sum == u16::MAX {
        sum.wrapping_add(1).to_be()
    } else {
        sum.to_be()
    }
}

/// Where a per-CPU table of `slots` (a power of two) has what belongs to these words. The key keeps
/// anybody from choosing what meets in one slot; what does costs the other a lookup, no more.
#[inline(always)]
fn slot<const N: usize>(words: [u64; N], key: [u32; 2], slots: u32) -> u32 {
    let mut hash = u64::from(key[0]) << 32 | u64::from(key[1]);
    for word in words {
        hash = (hash ^ word).wrapping_mul(ODD);
        hash ^= hash >> 32;
    }
    (hash >> 32) as u32 & (slots - 1)
}

/// Maps an IPv4 address, as it is in memory, into `::ffff:0:0/96`.
#[inline(always)]
const fn mapped(address: u32) -> [u64; 2] {
    let [a, b, c, d] = address.to_ne_bytes();
    [0, u64::from_ne_bytes([0, 0, 0xff, 0xff, a, b, c, d])]
}

const IPV4: u16 = 0x0800_u16.to_be();
const IPV6: u16 = 0x86dd_u16.to_be();
const VERSION_4: u8 = 0x45;
/// With the bit that has no meaning (RFC 791 §3.1).
const DO_NOT_FRAGMENT: u16 = 0xc000_u16.to_be();
/// Ethernet, IP and TCP without options.
const IPV4_TCP: usize = 14 + 20 + 20;
const IPV6_TCP: usize = 14 + 40 + 20;
const IPV4_ALONE: usize = 14 + 20;
const IPV6_ALONE: usize = 14 + 40;
const SYN: u8 = 0x02;
/// 2^64 divided by the golden ratio.
const ODD: u64 = 0x9e37_79b9_7f4a_7c15;

#[cfg(test)]
mod tests;
