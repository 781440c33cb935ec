//! What a test packet carries: TCP, UDP, and ICMP errors that quote another packet.

use std::net::IpAddr;

use super::Packet;

/// The payload of an IP packet.
#[derive(Clone, Debug)]
pub enum Transport {
    /// TCP.
    Tcp(Tcp),
    /// UDP.
    Udp(Udp),
    /// ICMP or `ICMPv6`, as the packet is IPv4 or IPv6.
    IcmpError(IcmpError),
    /// Anything else: a protocol number and bytes.
    Other(u8, Vec<u8>),
}

/// A TCP segment.
#[derive(Clone, Debug)]
pub struct Tcp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// CWR ECE URG ACK PSH RST SYN FIN.
    pub flags: u8,
    /// Options, a multiple of 4 bytes.
    pub options: Vec<u8>,
    /// Header length in 4-byte words that the segment claims; the true one when none is given.
    pub header_words: Option<u8>,
    /// What the application sent.
    pub payload: Vec<u8>,
}

impl Tcp {
    /// FIN.
    pub const FIN: u8 = 0x01;
    /// SYN.
    pub const SYN: u8 = 0x02;
    /// RST.
    pub const RST: u8 = 0x04;
    /// PSH.
    pub const PSH: u8 = 0x08;
    /// ACK.
    pub const ACK: u8 = 0x10;
    /// URG.
    pub const URG: u8 = 0x20;

    /// A segment that opens a connection.
    pub fn syn(source: u16, destination: u16) -> Self {
        Self::with_flags(source, destination, Self::SYN)
    }

    /// A segment without options and payload.
    pub fn with_flags(source: u16, destination: u16, flags: u8) -> Self {
        Self {
            source,
            destination,
            flags,
            options: Vec::new(),
            header_words: None,
            payload: Vec::new(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let words = u8::try_from(5 + self.options.len() / 4).expect("a TCP header has 15 words");
        let mut segment = self.source.to_be_bytes().to_vec();
        segment.extend(self.destination.to_be_bytes());
        // Sequence and acknowledgement numbers, then length, flags and window.
        segment.extend([0, 0, 0, 1, 0, 0, 0, 2]);
        segment.extend([
            self.header_words.unwrap_or(words) << 4,
            self.flags,
            0xff,
            0xff,
        ]);
        segment.extend([0; 4]);
        segment.extend(&self.options);
        segment.extend(&self.payload);
        segment
    }
}

/// A UDP datagram.
#[derive(Clone, Debug)]
pub struct Udp {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// What the application sent.
    pub payload: Vec<u8>,
}

impl Udp {
    /// A datagram of so many bytes.
    pub fn of_bytes(source: u16, destination: u16, bytes: usize) -> Self {
        Self {
            source,
            destination,
            payload: vec![0x55; bytes],
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let length = u16::try_from(8 + self.payload.len()).expect("a test packet is small");
        let mut datagram = self.source.to_be_bytes().to_vec();
        datagram.extend(self.destination.to_be_bytes());
        datagram.extend(length.to_be_bytes());
        datagram.extend([0; 2]);
        datagram.extend(&self.payload);
        datagram
    }
}

/// An ICMP error.
#[derive(Clone, Debug)]
pub struct IcmpError {
    /// Type: 3 or 11 in ICMP, 1 to 4 in `ICMPv6`.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// The packet that it is about, from its IP header.
    pub quoted: Vec<u8>,
}

impl IcmpError {
    /// Fragmentation needed, or packet too big, whichever the quoted packet calls for.
    pub fn too_big(quoted: &Packet) -> Self {
        let (kind, code) = if quoted.source.is_ipv4() {
            (3, 4)
        } else {
            (2, 0)
        };
        Self {
            kind,
            code,
            quoted: quoted.ip_bytes(),
        }
    }

    /// The same, with no more of the quoted packet than its IP header and the next 8 bytes: all
    /// that RFC 792 asks for.
    #[must_use]
    pub fn shortest(mut self) -> Self {
        let header_bytes = match self.quoted[0] >> 4 {
            4 => usize::from(self.quoted[0] & 0x0f) * 4,
            _ => 40,
        };
        self.quoted.truncate(header_bytes + 8);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut message = vec![self.kind, self.code, 0, 0];
        // The next hop's MTU: in the last two bytes for ICMP, in all four for ICMPv6.
        message.extend(1280_u32.to_be_bytes());
        message.extend(&self.quoted);
        message
    }
}

impl Transport {
    /// Its protocol number, in a packet from this address.
    pub(super) fn protocol(&self, source: IpAddr) -> u8 {
        match self {
            Self::Tcp(_) => 6,
            Self::Udp(_) => 17,
            Self::IcmpError(_) if source.is_ipv4() => 1,
            Self::IcmpError(_) => 58,
            Self::Other(protocol, _) => *protocol,
        }
    }

    /// Its bytes with their checksum.
    pub(super) fn bytes(&self, source: IpAddr, destination: IpAddr) -> Vec<u8> {
        let (mut bytes, checksum_at) = match self {
            Self::Tcp(tcp) => (tcp.bytes(), 16),
            Self::Udp(udp) => (udp.bytes(), 6),
            Self::IcmpError(error) => (error.bytes(), 2),
            Self::Other(_, bytes) => return bytes.clone(),
        };
        let protocol = self.protocol(source);
        // ICMP alone has no pseudo header (RFC 792; RFC 4443 §2.3).
        let mut summed = match protocol {
            1 => Vec::new(),
            _ => pseudo_header(source, destination, protocol, bytes.len()),
        };
        summed.extend(&bytes);
        let checksum = internet_checksum(&summed).to_be_bytes();
        bytes[checksum_at..checksum_at + 2].copy_from_slice(&checksum);
        bytes
    }
}

impl From<Tcp> for Transport {
    fn from(tcp: Tcp) -> Self {
        Self::Tcp(tcp)
    }
}

impl From<Udp> for Transport {
    fn from(udp: Udp) -> Self {
        Self::Udp(udp)
    }
}

impl From<IcmpError> for Transport {
    fn from(error: IcmpError) -> Self {
        Self::IcmpError(error)
    }
}

/// RFC 9293 §3.1 and RFC 8200 §8.1; the IPv4 form sums to the same as the IPv6 form.
fn pseudo_header(source: IpAddr, destination: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => header.extend(address.octets()),
            IpAddr::V6(address) => header.extend(address.octets()),
        }
    }
    header.extend(
        u32::try_from(length)
            .expect("a test packet is small")
            .to_be_bytes(),
    );
    header.extend([0, 0, 0, protocol]);
    header
}

/// RFC 1071.
pub(super) fn internet_checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| {
        u32::from(u16::from_be_bytes([
            pair[0],
            pair.get(1).copied().unwrap_or(0),
        ]))
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("it was folded")
}
