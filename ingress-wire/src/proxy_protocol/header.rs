//! Headers of the PROXY protocol as bytes: read and written, versions 1 and 2 of `HAProxy`'s
//! `proxy-protocol.txt`. Total: any bytes are a header, a part of one, or none.

use std::net::{IpAddr, SocketAddr};

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Text.
    V1,
    /// Binary.
    V2,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The connection is for somebody else, from the first address to the second.
    Proxied {
        /// The client.
        source: SocketAddr,
        /// Where the client has connected to.
        destination: SocketAddr,
    },
    /// It is the sender's own (a health check), or of a family that we do not speak.
    Own,
}

/// A header, or as much of it as there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of it.
    Complete {
        /// Bytes that it has.
        length: usize,
        /// What it says.
        origin: Origin,
    },
    /// The beginning of a header.
    Incomplete,
    /// Not a header.
    Malformed,
}

/// Reads what is there of a header.
pub fn parse(bytes: &[u8]) -> Parsed {
    let is_beginning_of = |whole: &[u8]| whole.starts_with(&bytes[..bytes.len().min(whole.len())]);
    if is_beginning_of(SIGNATURE_2) {
        parse_2(bytes)
    } else if is_beginning_of(SIGNATURE_1) {
        parse_1(bytes)
    } else {
        Parsed::Malformed
    }
}

/// Version 1 (§2.1): one line of text.
fn parse_1(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") else {
        return if bytes.len() < LINE_BYTES_MAX {
            Parsed::Incomplete
        } else {
            Parsed::Malformed
        };
    };
    let length = end + 2;
    if length > LINE_BYTES_MAX {
        return Parsed::Malformed;
    }
    let line = std::str::from_utf8(&bytes[SIGNATURE_1.len()..end]);
    match line.ok().and_then(origin_of_line) {
        Some(origin) => Parsed::Complete { length, origin },
        None => Parsed::Malformed,
    }
}

fn origin_of_line(line: &str) -> Option<Origin> {
    let mut words = line.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(Origin::Own);
    }
    let [source, destination, source_port, destination_port] = [(); 4].map(|()| words.next());
    let is_family = |ip: IpAddr| match family {
        "TCP4" => ip.is_ipv4(),
        "TCP6" => ip.is_ipv6(),
        _ => false,
    };
    let address = |ip: Option<&str>, port: Option<&str>| {
        let ip: IpAddr = ip?.parse().ok().filter(|ip| is_family(*ip))?;
        let port = port?;
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        Some(SocketAddr::new(
            ip.to_canonical(),
            port.parse().ok().filter(|_| is_number)?,
        ))
    };
    let origin = Origin::Proxied {
        source: address(source, source_port)?,
        destination: address(destination, destination_port)?,
    };
    words.next().is_none().then_some(origin)
}

/// Version 2 (§2.2): binary, with fields after the addresses that we have no use for.
fn parse_2(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        return Parsed::Incomplete;
    };
    let length = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    if FIXED_BYTES + length > HEADER_BYTES_MAX {
        return Parsed::Malformed;
    }
    let Some(payload) = rest.get(..length) else {
        return Parsed::Incomplete;
    };
    let origin = match (fixed[12], fixed[13]) {
        (PROXY, TCP4) => origin_of_payload::<4>(payload),
        (PROXY, TCP6) => origin_of_payload::<16>(payload),
        // Unspecified, datagrams and Unix sockets.
        (LOCAL, _) | (PROXY, 0x00 | 0x12 | 0x22 | 0x31 | 0x32) => Some(Origin::Own),
        _ => None,
    };
    match origin {
        Some(origin) => Parsed::Complete {
            length: FIXED_BYTES + length,
            origin,
        },
        None => Parsed::Malformed,
    }
}

/// Two addresses of N bytes, then their ports.
fn origin_of_payload<const N: usize>(payload: &[u8]) -> Option<Origin>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = payload.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (source_port, rest) = rest.split_first_chunk()?;
    let (destination_port, _) = rest.split_first_chunk()?;
    let address = |ip: &[u8; N], port: &[u8; 2]| {
        let ip = IpAddr::from(*ip).to_canonical();
        SocketAddr::new(ip, u16::from_be_bytes(*port))
    };
    Some(Origin::Proxied {
        source: address(source, source_port),
        destination: address(destination, destination_port),
    })
}

/// The header of a connection that we make for somebody.
pub fn header(version: Version, source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let (from, to) = (source.ip(), destination.ip());
    match version {
        Version::V1 => {
            let (from_port, to_port) = (source.port(), destination.port());
            let line = match (from, to) {
                (IpAddr::V4(_), IpAddr::V4(_)) => format!("TCP4 {from} {to} {from_port} {to_port}"),
                (IpAddr::V6(_), IpAddr::V6(_)) => format!("TCP6 {from} {to} {from_port} {to_port}"),
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => {
                    "UNKNOWN".to_owned()
                }
            };
            format!("PROXY {line}\r\n").into_bytes()
        }
        Version::V2 => {
            let (family, mut addresses) = match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => (TCP4, [from.octets(), to.octets()].concat()),
                (IpAddr::V6(from), IpAddr::V6(to)) => (TCP6, [from.octets(), to.octets()].concat()),
                (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => (0, Vec::new()),
            };
            if family != 0 {
                addresses.extend(source.port().to_be_bytes());
                addresses.extend(destination.port().to_be_bytes());
            }
            let length = u16::try_from(addresses.len()).unwrap_or(0).to_be_bytes();
            [SIGNATURE_2, &[PROXY, family], &length, &addresses].concat()
        }
    }
}

const SIGNATURE_1: &[u8] = b"PROXY ";
const SIGNATURE_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length of version 2.
const FIXED_BYTES: usize = 16;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP4: u8 = 0x11;
const TCP6: u8 = 0x21;

/// The longest line of version 1 (§2.1).
const LINE_BYTES_MAX: usize = 107;

/// Bytes of a header of version 2 with all that load balancers add to it.
pub const HEADER_BYTES_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::check::check;
    use super::*;

    fn proxied(source: &str, destination: &str) -> Origin {
        Origin::Proxied {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    #[test]
    fn lines_of_version_1_are_read() {
        let four = b"PROXY TCP4 192.0.2.1 192.0.2.2 5 80\r\nGET / HTTP/1.1\r\n";
        let origin = proxied("192.0.2.1:5", "192.0.2.2:80");
        assert_eq!(parse(four), Parsed::Complete { length: 37, origin });
        let six = b"PROXY TCP6 2001:db8::1 ::2 5 80\r\n";
        let origin = proxied("[2001:db8::1]:5", "[::2]:80");
        assert_eq!(parse(six), Parsed::Complete { length: 33, origin });
        let mapped = b"PROXY TCP6 ::ffff:192.0.2.1 ::2 5 80\r\n";
        let origin = proxied("192.0.2.1:5", "[::2]:80");
        assert_eq!(parse(mapped), Parsed::Complete { length: 38, origin });
        for own in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"] {
            let (length, origin) = (own.len(), Origin::Own);
            assert_eq!(parse(own.as_bytes()), Parsed::Complete { length, origin });
        }
    }

    #[test]
    fn invalid_proxy_lines_are_malformed() {
        for wrong in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 80 9\r\n",
            "PROXY TCP4 ::1 ::2 5 80\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 5 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +5 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 5 80000\r\n",
            "PROXY UDP4 192.0.2.1 192.0.2.2 5 80\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 5 80\r\n",
        ] {
            assert_eq!(parse(wrong.as_bytes()), Parsed::Malformed, "{wrong:?}");
        }
        assert_eq!(
            parse(&[b"PROXY ", &[b' '; 200][..]].concat()),
            Parsed::Malformed
        );
    }

    /// A header of version 2.
    fn binary(command: u8, family: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [SIGNATURE_2, &[command, family], &length, payload].concat()
    }

    #[test]
    fn headers_of_version_2_are_read() {
        let addresses = [192, 0, 2, 1, 192, 0, 2, 2, 0, 5, 0, 80];
        let with_more = [&addresses[..], &[1, 0, 2, b'h', b'2']].concat();
        let origin = proxied("192.0.2.1:5", "192.0.2.2:80");
        let header = binary(PROXY, TCP4, &with_more);
        let length = header.len();
        assert_eq!(parse(&header), Parsed::Complete { length, origin });
        let own = binary(LOCAL, 0, &[]);
        let (length, origin) = (own.len(), Origin::Own);
        assert_eq!(parse(&own), Parsed::Complete { length, origin });
        for wrong in [
            binary(0x22, TCP4, &addresses),
            binary(0x11, TCP4, &addresses),
            binary(PROXY, TCP4, &addresses[..11]),
            binary(PROXY, TCP6, &addresses),
            binary(PROXY, 0x44, &addresses),
            binary(PROXY, TCP4, &[0; 5000]),
        ] {
            assert_eq!(parse(&wrong), Parsed::Malformed, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(source in any::<SocketAddr>(), destination in any::<SocketAddr>()) {
            let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
            let (source, destination) = (canonical(source), canonical(destination));
            let origin = if source.is_ipv4() == destination.is_ipv4() {
                Origin::Proxied { source, destination }
            } else {
                Origin::Own
            };
            for version in [Version::V1, Version::V2] {
                let written = header(version, source, destination);
                let length = written.len();
                prop_assert_eq!(parse(&written), Parsed::Complete { length, origin });
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), version in 0..3_u8) {
            let bytes = match version {
                1 => [SIGNATURE_1, &bytes].concat(),
                2 => [SIGNATURE_2, &bytes].concat(),
                _ => bytes,
            };
            check(&bytes);
        }

        #[test]
        fn damaged_headers_are_read_or_refused(
            source in any::<SocketAddr>(),
            destination in any::<SocketAddr>(),
            is_text: bool,
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            more in prop::collection::vec(any::<u8>(), 0..20),
        ) {
            let version = if is_text { Version::V1 } else { Version::V2 };
            let mut bytes = [header(version, source, destination), more].concat();
            for (at, byte) in damage {
                *at.get_mut(&mut bytes[..]) = byte;
            }
            check(&bytes);
        }

        /// However a header is cut, its beginning is incomplete and never taken for another one.
        #[test]
        fn a_part_of_a_header_is_incomplete(source in any::<SocketAddr>(), cut in any::<prop::sample::Index>()) {
            let header = match source {
                SocketAddr::V4(_) => format!("PROXY TCP4 {} 192.0.2.2 {} 80\r\n", source.ip(), source.port()),
                SocketAddr::V6(_) => format!("PROXY TCP6 {} ::2 {} 80\r\n", source.ip(), source.port()),
            };
            let cut = cut.index(header.len());
            prop_assert_eq!(parse(&header.as_bytes()[..cut]), Parsed::Incomplete);
            let is_proxied = match parse(header.as_bytes()) {
                Parsed::Complete { origin, .. } => origin != Origin::Own,
                Parsed::Incomplete | Parsed::Malformed => false,
            };
            prop_assert!(is_proxied);
        }
    }
}
