//! From bytes to headers: Ethernet, VLAN tags, IPv4, IPv6, TCP, UDP and quoting ICMP errors.
//!
//! The invariant: nothing outside the packet is read, no loop is without a bound, and everything
//! that is not understood is an error with a reason, which the caller passes on untouched.

use ingress_common::steering::{Address, mapped};
use ingress_common::verdict::Reason;

use crate::packet::Packet;

/// IP protocol numbers (RFC 5237).
pub mod protocol {
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// `ICMPv6` (RFC 4443).
    pub const ICMPV6: u8 = 58;
}

/// The version of the Internet protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Where a packet stands in a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragment {
    /// Not fragmented.
    Whole,
    /// The first fragment.
    First,
    /// A later one: it has no ports.
    Later,
}

/// What all fragments of a datagram tell of it, besides its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Identification, network byte order; IPv4 uses the last two bytes.
    pub id: [u8; 4],
    /// IP protocol number of what is cut: in IPv6 the next header of the fragment header.
    pub protocol: u8,
}

impl Identity {
    /// That of a whole packet.
    pub const NONE: Self = Self {
        id: [0; 4],
        protocol: 0,
    };
}

/// One end of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// Its address.
    pub address: Address,
    /// Its port, network byte order.
    pub port: [u8; 2],
}

/// The network layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// IPv4 or IPv6.
    pub version: Version,
    /// Bytes from the Ethernet header to the IP header.
    pub offset: usize,
    /// Bytes from the Ethernet header to the payload, after all options and extension headers.
    pub payload: usize,
    /// IP protocol number of the payload.
    pub protocol: u8,
    /// Fragmentation.
    pub fragment: Fragment,
    /// The datagram that a fragment belongs to; it means nothing for a whole packet. Not a part of
    /// `fragment`: kernels before 6.3 refuse to move bytes that are not initialised.
    pub identity: Identity,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
}

/// What the payload says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// TCP with its ports in network byte order.
    Tcp {
        /// Source port.
        source: [u8; 2],
        /// Destination port.
        destination: [u8; 2],
        /// The flags byte: CWR ECE URG ACK PSH RST SYN FIN.
        flags: u8,
    },
    /// UDP with its ports in network byte order.
    Udp {
        /// Source port.
        source: [u8; 2],
        /// Destination port.
        destination: [u8; 2],
    },
    /// An ICMP error about a packet that this node sent, if it is for us.
    IcmpError {
        /// IP protocol number of the quoted packet.
        protocol: u8,
        /// Where the quoted packet came from.
        local: End,
        /// Where it was sent to.
        remote: End,
    },
    /// A later fragment: its ports went with the first.
    None,
}

/// The `EtherType` and the tags before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `EtherType` after the last tag.
    pub ether_type: u16,
    /// Bytes from the Ethernet header to its payload.
    pub payload: usize,
    /// The tags that are there, outermost first.
    pub tags: [Tag; VLAN_TAGS_MAX],
}

/// A VLAN tag, or room for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    /// `EtherType`: 0x8100 or 0x88a8.
    pub ether_type: u16,
    /// VLAN identifier; 0 where there is no tag, or one that only says how urgent the frame is
    /// (IEEE 802.1Q §9.6).
    pub id: u16,
}

impl Tag {
    /// No tag.
    pub const NONE: Self = Self {
        ether_type: 0,
        id: 0,
    };

    /// From its type and its control information.
    #[inline(always)]
    #[must_use]
    pub const fn new(ether_type: u16, control: u16) -> Self {
        Self {
            ether_type,
            id: control & VLAN_ID,
        }
    }
}

/// All headers of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet and tags.
    pub link: Link,
    /// IP.
    pub network: Network,
    /// What the payload says.
    pub transport: Transport,
}

impl Headers {
    /// Those of no packet: room to read into, every byte of which is initialised.
    pub const NONE: Self = Self {
        link: Link {
            ether_type: 0,
            payload: 0,
            tags: [Tag::NONE; VLAN_TAGS_MAX],
        },
        network: Network {
            version: Version::V4,
            offset: 0,
            payload: 0,
            protocol: 0,
            fragment: Fragment::Whole,
            identity: Identity::NONE,
            source: [0; 16],
            destination: [0; 16],
        },
        transport: Transport::None,
    };
}

/// Reads the Ethernet header and up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#[inline(always)]
pub fn link<P: Packet + ?Sized>(packet: &P) -> Result<Link, Reason> {
    let mut ether_type = u16::from_be_bytes(packet.load(12).ok_or(Reason::Unparsable)?);
    let mut payload = ETHERNET_BYTES;
    let mut tags = [Tag::NONE; VLAN_TAGS_MAX];
    for tag in &mut tags {
        if ether_type != ETHER_TYPE_VLAN && ether_type != ETHER_TYPE_QINQ {
            break;
        }
        let [a, b, c, d] = packet.load(payload).ok_or(Reason::Unparsable)?;
        *tag = Tag::new(ether_type, u16::from_be_bytes([a, b]));
        ether_type = u16::from_be_bytes([c, d]);
        payload += VLAN_TAG_BYTES;
    }
    if ether_type == ETHER_TYPE_VLAN || ether_type == ETHER_TYPE_QINQ {
        return Err(Reason::TooDeep);
    }
    Ok(Link {
        ether_type,
        payload,
        tags,
    })
}

/// Reads the IP header with its options or extension headers.
#[inline(always)]
pub fn network<P: Packet + ?Sized>(packet: &P, link: Link) -> Result<Network, Reason> {
    let mut network = Headers::NONE.network;
    read_network(packet, link, &mut network).map(|()| network)
}

/// Reads the IP header with its options or extension headers to where it stays.
#[inline(always)]
pub fn read_network<P: Packet + ?Sized>(
    packet: &P,
    link: Link,
    network: &mut Network,
) -> Result<(), Reason> {
    match link.ether_type {
        ETHER_TYPE_IPV4 => ipv4(packet, link.payload, network),
        ETHER_TYPE_IPV6 => ipv6(packet, link.payload, network),
        _ => Err(Reason::NotIp),
    }
}

/// Reads what follows the IP header.
pub fn transport<P: Packet + ?Sized>(packet: &P, network: &Network) -> Result<Transport, Reason> {
    let mut transport = Transport::None;
    read_transport(packet, network, &mut transport).map(|()| transport)
}

/// Reads what follows the IP header to where it stays. A value that is returned would be put
/// together from all its variants, of which the verifier sees the bytes that are not initialised.
#[inline(always)]
pub fn read_transport<P: Packet + ?Sized>(
    packet: &P,
    network: &Network,
    transport: &mut Transport,
) -> Result<(), Reason> {
    if network.fragment == Fragment::Later {
        *transport = Transport::None;
        return Ok(());
    }
    match (network.protocol, network.version) {
        (protocol::TCP, _) => {
            let head: [u8; 14] = packet.load(network.payload).ok_or(Reason::Unparsable)?;
            *transport = Transport::Tcp {
                source: [head[0], head[1]],
                destination: [head[2], head[3]],
                flags: head[13],
            };
            Ok(())
        }
        (protocol::UDP, _) => {
            let ports: [u8; 4] = packet.load(network.payload).ok_or(Reason::Unparsable)?;
            *transport = Transport::Udp {
                source: [ports[0], ports[1]],
                destination: [ports[2], ports[3]],
            };
            Ok(())
        }
        (protocol::ICMP, Version::V4) | (protocol::ICMPV6, Version::V6) => {
            icmp_error(packet, network, transport)
        }
        _ => Err(Reason::OtherProtocol),
    }
}

#[inline(always)]
fn ipv4<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    network: &mut Network,
) -> Result<(), Reason> {
    let head: [u8; IPV4_BYTES] = packet.load(offset).ok_or(Reason::Unparsable)?;
    let header_bytes = ipv4_header_bytes(head[0])?;
    let more = head[6] & IPV4_MORE_FRAGMENTS != 0;
    let position = u16::from_be_bytes([head[6] & IPV4_FRAGMENT_OFFSET, head[7]]);
    *network = Network {
        version: Version::V4,
        offset,
        payload: offset + header_bytes,
        protocol: head[9],
        fragment: fragment(position, more),
        identity: Identity {
            id: [0, 0, head[4], head[5]],
            protocol: head[9],
        },
        source: mapped([head[12], head[13], head[14], head[15]]),
        destination: mapped([head[16], head[17], head[18], head[19]]),
    };
    Ok(())
}

/// The length of an IPv4 header that begins with this byte.
#[inline(always)]
fn ipv4_header_bytes(first: u8) -> Result<usize, Reason> {
    let header_bytes = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header_bytes < IPV4_BYTES {
        return Err(Reason::Unparsable);
    }
    Ok(header_bytes)
}

#[inline(always)]
fn ipv6<P: Packet + ?Sized>(
    packet: &P,
    offset: usize,
    network: &mut Network,
) -> Result<(), Reason> {
    let head: [u8; 8] = packet.load(offset).ok_or(Reason::Unparsable)?;
    if head[0] >> 4 != 6 {
        return Err(Reason::Unparsable);
    }
    let source = packet.load(offset + 8).ok_or(Reason::Unparsable)?;
    let destination = packet.load(offset + 24).ok_or(Reason::Unparsable)?;
    let mut walk = Walk {
        protocol: head[6],
        payload: offset + IPV6_BYTES,
        position: 0,
        more: false,
        identity: Identity::NONE,
    };
    for _ in 0..WALK_STEPS_MAX {
        if !walk.step(packet)? {
            *network = Network {
                version: Version::V6,
                offset,
                payload: walk.payload,
                protocol: walk.protocol,
                fragment: fragment(walk.position, walk.more),
                identity: walk.identity,
                source,
                destination,
            };
            return Ok(());
        }
    }
    Err(Reason::TooDeep)
}

/// A walk over extension headers. Plain integers, all of them initialised: an enum that a loop
/// carries has bytes that are not, and the kernel's verifier refuses to see them moved.
struct Walk {
    protocol: u8,
    payload: usize,
    position: u16,
    more: bool,
    identity: Identity,
}

impl Walk {
    /// Steps over one extension header (RFC 8200 §4); false when there is none.
    #[inline(always)]
    fn step<P: Packet + ?Sized>(&mut self, packet: &P) -> Result<bool, Reason> {
        // The payload of a later fragment starts in the middle of something.
        if self.position != 0 {
            return Ok(false);
        }
        let kind = self.protocol;
        if !matches!(
            kind,
            HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
        ) {
            return Ok(false);
        }
        let head: [u8; 8] = packet.load(self.payload).ok_or(Reason::Unparsable)?;
        self.protocol = head[0];
        self.payload += match kind {
            FRAGMENT => {
                let bits = u16::from_be_bytes([head[2], head[3]]);
                self.position = bits >> 3;
                self.more = bits & 1 != 0;
                self.identity = Identity {
                    id: [head[4], head[5], head[6], head[7]],
                    protocol: head[0],
                };
                8
            }
            // RFC 4302 §2.2 counts in 4-byte units.
            AUTHENTICATION => (usize::from(head[1]) + 2) * 4,
            _ => (usize::from(head[1]) + 1) * 8,
        };
        Ok(true)
    }
}

#[inline(always)]
fn fragment(position: u16, more: bool) -> Fragment {
    match (position, more) {
        (0, false) => Fragment::Whole,
        (0, true) => Fragment::First,
        _ => Fragment::Later,
    }
}

/// Reads the packet that an ICMP error quotes: always of the same IP version.
#[inline(always)]
fn icmp_error<P: Packet + ?Sized>(
    packet: &P,
    network: &Network,
    transport: &mut Transport,
) -> Result<(), Reason> {
    let [kind]: [u8; 1] = packet.load(network.payload).ok_or(Reason::Unparsable)?;
    let is_error = match network.version {
        Version::V4 => is_icmp_error(kind),
        Version::V6 => is_icmpv6_error(kind),
    };
    if !is_error {
        return Err(Reason::OtherProtocol);
    }
    let quoted = network.payload + ICMP_BYTES;
    let (protocol, source, destination, payload) = match network.version {
        Version::V4 => {
            let head: [u8; IPV4_BYTES] = packet.load(quoted).ok_or(Reason::Unparsable)?;
            let header_bytes = ipv4_header_bytes(head[0])?;
            if u16::from_be_bytes([head[6] & IPV4_FRAGMENT_OFFSET, head[7]]) != 0 {
                return Err(Reason::OtherProtocol);
            }
            let source = mapped([head[12], head[13], head[14], head[15]]);
            let destination = mapped([head[16], head[17], head[18], head[19]]);
            (head[9], source, destination, quoted + header_bytes)
        }
        Version::V6 => {
            // Quoted extension headers are not walked: what we send has none.
            let head: [u8; 8] = packet.load(quoted).ok_or(Reason::Unparsable)?;
            if head[0] >> 4 != 6 {
                return Err(Reason::Unparsable);
            }
            let source = packet.load(quoted + 8).ok_or(Reason::Unparsable)?;
            let destination = packet.load(quoted + 24).ok_or(Reason::Unparsable)?;
            (head[6], source, destination, quoted + IPV6_BYTES)
        }
    };
    if protocol != protocol::TCP && protocol != protocol::UDP {
        return Err(Reason::OtherProtocol);
    }
    let ports: [u8; 4] = packet.load(payload).ok_or(Reason::Unparsable)?;
    *transport = Transport::IcmpError {
        protocol,
        local: End {
            address: source,
            port: [ports[0], ports[1]],
        },
        remote: End {
            address: destination,
            port: [ports[2], ports[3]],
        },
    };
    Ok(())
}

/// Destination unreachable, time exceeded, parameter problem (RFC 792).
#[inline(always)]
fn is_icmp_error(kind: u8) -> bool {
    matches!(kind, 3 | 11 | 12)
}

/// Destination unreachable, packet too big, time exceeded, parameter problem (RFC 4443 §2.1).
#[inline(always)]
fn is_icmpv6_error(kind: u8) -> bool {
    matches!(kind, 1..=4)
}

const ETHERNET_BYTES: usize = 14;
const VLAN_TAG_BYTES: usize = 4;
const VLAN_ID: u16 = 0x0fff;
const VLAN_TAGS_MAX: usize = 2;
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ETHER_TYPE_VLAN: u16 = 0x8100;
const ETHER_TYPE_QINQ: u16 = 0x88a8;
const IPV4_BYTES: usize = 20;
const IPV4_MORE_FRAGMENTS: u8 = 0x20;
const IPV4_FRAGMENT_OFFSET: u8 = 0x1f;
const IPV6_BYTES: usize = 40;
const ICMP_BYTES: usize = 8;
const EXTENSION_HEADERS_MAX: usize = 6;
/// The last step only sees that no further header follows.
const WALK_STEPS_MAX: usize = EXTENSION_HEADERS_MAX + 1;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
