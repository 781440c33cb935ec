//! Builds Ethernet frames for tests of the parser and of the programs.
//!
//! A packet is what was asked for, with right lengths and checksums; what is wrong with it, if
//! anything, is said by name at the test.

mod transport;

use std::net::IpAddr;

pub use transport::{IcmpError, Tcp, Transport, Udp};

use transport::internet_checksum;

/// An IPv6 extension header (RFC 8200 §4), each with a length of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Hop-by-hop options, 8 bytes.
    HopByHop,
    /// A routing header, 24 bytes.
    Routing,
    /// Destination options, 16 bytes.
    DestinationOptions,
    /// An authentication header, 24 bytes.
    Authentication,
}

/// A part of a fragmented datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Identification; IPv4 has 16 bits of it.
    pub id: u32,
    /// Where the part begins in the fragmentable bytes; a multiple of 8.
    pub offset: usize,
    /// Bytes of the part at most.
    pub bytes: usize,
}

/// An Ethernet frame with an IP packet inside.
#[derive(Clone, Debug)]
pub struct Packet {
    destination_mac: [u8; 6],
    tags: Vec<(u16, u16)>,
    source: IpAddr,
    destination: IpAddr,
    ttl: u8,
    options: Vec<u8>,
    extensions: Vec<Extension>,
    cut: Option<Cut>,
    /// How many of the extension headers every fragment carries.
    before_cut: usize,
    transport: Transport,
}

impl Packet {
    /// A packet without any extras.
    ///
    /// # Panics
    ///
    /// If the addresses are not of one version.
    pub fn new(
        source: impl Into<IpAddr>,
        destination: impl Into<IpAddr>,
        transport: impl Into<Transport>,
    ) -> Self {
        let (source, destination) = (source.into(), destination.into());
        assert_eq!(
            source.is_ipv4(),
            destination.is_ipv4(),
            "addresses of two versions"
        );
        Self {
            destination_mac: NODE_MAC,
            tags: Vec::new(),
            source,
            destination,
            ttl: 64,
            options: Vec::new(),
            extensions: Vec::new(),
            cut: None,
            before_cut: 0,
            transport: transport.into(),
        }
    }

    /// Sends it to this link-layer address instead of to [`NODE_MAC`].
    #[must_use]
    pub fn to_mac(mut self, address: [u8; 6]) -> Self {
        self.destination_mac = address;
        self
    }

    /// Adds a VLAN tag (IEEE 802.1Q) inside those already there.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.tags.push((ETHER_TYPE_VLAN, id));
        self
    }

    /// Adds a service tag (IEEE 802.1ad) inside those already there.
    #[must_use]
    pub fn service_vlan(mut self, id: u16) -> Self {
        self.tags.push((ETHER_TYPE_QINQ, id));
        self
    }

    /// Sets the time to live, or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Adds IPv4 options: no-operations of so many 4-byte words, at most 10.
    #[must_use]
    pub fn option_words(mut self, words: usize) -> Self {
        self.options = vec![IPV4_NO_OPERATION; words * 4];
        self
    }

    /// Adds an IPv6 extension header after those already there.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Cuts a fragment out; extension headers added before are in every fragment, those added
    /// after are part of what is fragmented.
    ///
    /// # Panics
    ///
    /// If the part does not begin at a multiple of 8 bytes.
    #[must_use]
    pub fn cut(mut self, cut: Cut) -> Self {
        assert_eq!(cut.offset % 8, 0, "fragments begin at multiples of 8 bytes");
        self.cut = Some(cut);
        self.before_cut = self.extensions.len();
        self
    }

    /// The frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut frame = self.destination_mac.to_vec();
        frame.extend(SOURCE_MAC);
        for (ether_type, id) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        let ether_type = if self.source.is_ipv4() {
            ETHER_TYPE_IPV4
        } else {
            ETHER_TYPE_IPV6
        };
        frame.extend(ether_type.to_be_bytes());
        frame.extend(self.ip_bytes());
        frame
    }

    /// Protocol number of the first header that fragments cut, which all of them tell.
    pub fn next_of_cut(&self) -> u8 {
        let cut = self.extensions.get(self.before_cut);
        cut.map_or_else(
            || self.transport.protocol(self.source),
            |extension| extension.number(),
        )
    }

    /// The packet without its Ethernet header, as ICMP errors quote it.
    pub fn ip_bytes(&self) -> Vec<u8> {
        let transport = self.transport.bytes(self.source, self.destination);
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4(source.octets(), destination.octets(), &transport)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6(source.octets(), destination.octets(), transport)
            }
            _ => unreachable!("checked when it was made"),
        }
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4], transport: &[u8]) -> Vec<u8> {
        let (part, more) = self.part(transport);
        let header_bytes = 20 + self.options.len();
        let Cut { id, offset, .. } = self.cut.unwrap_or(WHOLE);
        let position = u16_from(offset / 8) | if more { IPV4_MORE_FRAGMENTS } else { 0 };
        let mut packet = vec![0x40 | u8_from(header_bytes / 4), 0];
        packet.extend(u16_from(header_bytes + part.len()).to_be_bytes());
        packet.extend(u16_from(id as usize).to_be_bytes());
        packet.extend(position.to_be_bytes());
        packet.extend([self.ttl, self.transport.protocol(self.source), 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(&self.options);
        let checksum = internet_checksum(&packet);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet.extend(part);
        packet
    }

    fn ipv6(&self, source: [u8; 16], destination: [u8; 16], transport: Vec<u8>) -> Vec<u8> {
        let protocol = self.transport.protocol(self.source);
        let (every, first) = self.extensions.split_at(self.before_cut);
        let (mut next, mut payload) = chain(first, protocol, transport);
        if let Some(cut) = self.cut {
            let (part, more) = self.part(&payload);
            let position = u16_from(cut.offset) | u16::from(more);
            let mut header = vec![next, 0];
            header.extend(position.to_be_bytes());
            header.extend(cut.id.to_be_bytes());
            payload = [&header, part].concat();
            next = FRAGMENT;
        }
        let (next, payload) = chain(every, next, payload);
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(u16_from(payload.len()).to_be_bytes());
        packet.extend([next, self.ttl]);
        packet.extend(source);
        packet.extend(destination);
        packet.extend(payload);
        packet
    }

    /// The bytes that this fragment carries, and whether more follow.
    fn part<'a>(&self, whole: &'a [u8]) -> (&'a [u8], bool) {
        let Cut { offset, bytes, .. } = self.cut.unwrap_or(WHOLE);
        let start = offset.min(whole.len());
        let end = start.saturating_add(bytes).min(whole.len());
        (&whole[start..end], end < whole.len())
    }
}

/// Puts extension headers before a payload; gives the number of the first one.
fn chain(extensions: &[Extension], mut next: u8, mut payload: Vec<u8>) -> (u8, Vec<u8>) {
    for extension in extensions.iter().rev() {
        let header = extension.bytes(next);
        payload = [header, payload].concat();
        next = extension.number();
    }
    (next, payload)
}

impl Extension {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::HopByHop,
        Self::Routing,
        Self::DestinationOptions,
        Self::Authentication,
    ];

    fn number(self) -> u8 {
        match self {
            Self::HopByHop => 0,
            Self::Routing => 43,
            Self::DestinationOptions => 60,
            Self::Authentication => 51,
        }
    }

    fn bytes(self, next: u8) -> Vec<u8> {
        // The length byte, then what follows it up to the end of the first 8 bytes.
        let (length, rest, bytes) = match self {
            // PadN of 4 bytes (RFC 8200 §4.2).
            Self::HopByHop => (0, [1, 4, 0, 0, 0, 0], 8),
            // Type 4 (RFC 8754) with one segment, none left.
            Self::Routing => (2, [4, 0, 0, 0, 0, 0], 24),
            Self::DestinationOptions => (1, [1, 12, 0, 0, 0, 0], 16),
            // RFC 4302: counted in 4-byte units, 12 bytes of integrity value.
            Self::Authentication => (4, [0, 0, 0, 0, 0, 1], 24),
        };
        let mut header = vec![next, length];
        header.extend(rest);
        header.resize(bytes, 0);
        header
    }
}

fn u8_from(value: usize) -> u8 {
    u8::try_from(value).expect("a test packet is small")
}

fn u16_from(value: usize) -> u16 {
    u16::try_from(value).expect("a test packet is small")
}

/// Link-layer address of the node that packets are sent to, unless told otherwise.
pub const NODE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

const WHOLE: Cut = Cut {
    id: 0,
    offset: 0,
    bytes: usize::MAX,
};
const SOURCE_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const ETHER_TYPE_IPV4: u16 = 0x0800;
const ETHER_TYPE_IPV6: u16 = 0x86dd;
const ETHER_TYPE_VLAN: u16 = 0x8100;
const ETHER_TYPE_QINQ: u16 = 0x88a8;
const IPV4_NO_OPERATION: u8 = 1;
const IPV4_MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT: u8 = 44;
