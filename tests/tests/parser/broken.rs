//! Packets that end too early, go too deep or contradict themselves.

use std::cell::RefCell;

use ingress_common::verdict::Reason;
use ingress_ebpf::packet::Packet as Bytes;
use ingress_ebpf::parse;
use ingress_tests::packet::{Cut, Extension, IcmpError, Packet, Tcp, Transport, Udp};

use crate::{PAIRS, read};

/// A packet that notes the furthest byte that was read.
struct Watched<'a> {
    bytes: &'a [u8],
    read_end: RefCell<usize>,
}

impl Bytes for Watched<'_> {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        let loaded = self.bytes.load(offset);
        if loaded.is_some() {
            let mut end = self.read_end.borrow_mut();
            *end = (*end).max(offset + N);
        }
        loaded
    }
}

/// One packet for each way through the parser.
fn samples() -> Vec<Packet> {
    let mut samples = Vec::new();
    let tcp = |source, destination| Tcp {
        payload: vec![0; 100],
        ..Tcp::syn(source, destination)
    };
    for (client, node) in PAIRS {
        let quoted = Packet::new(node, client, tcp(443, 40_000)).option_words(2);
        for sample in [
            Packet::new(client, node, tcp(40_000, 443)),
            Packet::new(client, node, Udp::of_bytes(40_000, 53, 100)),
            Packet::new(client, node, IcmpError::too_big(&quoted)),
        ] {
            samples.push(sample.clone());
            samples.push(sample.clone().vlan(7).vlan(8).option_words(10));
            let long = Extension::ALL.into_iter().fold(sample, Packet::extension);
            let cut = Cut {
                id: 7,
                offset: 0,
                bytes: 56,
            };
            samples.push(long.cut(cut));
        }
    }
    samples
}

#[test]
fn a_packet_that_ends_anywhere_is_unparsable_until_its_headers_are_there() {
    for packet in samples() {
        let frame = packet.bytes();
        let whole = read(&frame).expect("it is well-formed");
        let watched = Watched {
            bytes: &frame,
            read_end: RefCell::default(),
        };
        let network = parse::link(&watched).and_then(|link| parse::network(&watched, link));
        parse::transport(&watched, &network.expect("well-formed")).expect("well-formed");
        let needed = watched.read_end.into_inner();
        for end in 0..=frame.len() {
            let expected = if end < needed {
                Err(Reason::Unparsable)
            } else {
                Ok(whole)
            };
            assert_eq!(
                read(&frame[..end]),
                expected,
                "{end} of {needed} bytes, {packet:?}"
            );
        }
    }
}

#[test]
fn two_tags_are_looked_behind_and_three_are_too_many() {
    for (client, node) in PAIRS {
        let packet = Packet::new(client, node, Tcp::syn(1, 2)).vlan(1).vlan(2);
        assert!(read(&packet.bytes()).is_ok());
        assert_eq!(read(&packet.vlan(3).bytes()), Err(Reason::TooDeep));
    }
}

#[test]
fn six_extension_headers_are_looked_behind_and_seven_are_too_many() {
    let (client, node) = PAIRS[1];
    for extension in Extension::ALL {
        let packet = Packet::new(client, node, Tcp::syn(1, 2));
        let six = (0..6).fold(packet, |packet, _| packet.extension(extension));
        assert!(read(&six.bytes()).is_ok(), "{extension:?}");
        let seven = six.extension(extension);
        assert_eq!(read(&seven.bytes()), Err(Reason::TooDeep), "{extension:?}");
    }
}

#[test]
fn frames_other_than_ip_are_classified() {
    let (client, node) = PAIRS[0];
    let mut frame = Packet::new(client, node, Tcp::syn(1, 2)).bytes();
    // ARP, PPPoE, MPLS, LLDP, and a length instead of a type.
    for ether_type in [0x0806_u16, 0x8864, 0x8847, 0x88cc, 46] {
        frame[12..14].copy_from_slice(&ether_type.to_be_bytes());
        assert_eq!(read(&frame), Err(Reason::NotIp), "{ether_type:#x}");
    }
}

#[test]
fn a_version_that_contradicts_the_ether_type_is_unparsable() {
    for (client, node) in PAIRS {
        let frame = Packet::new(client, node, Tcp::syn(1, 2)).bytes();
        for version in (0..16).filter(|version| *version != frame[14] >> 4) {
            let mut frame = frame.clone();
            frame[14] = version << 4 | 0x05;
            assert_eq!(read(&frame), Err(Reason::Unparsable), "version {version}");
        }
    }
}

#[test]
fn an_ipv4_header_below_20_bytes_is_unparsable() {
    let (client, node) = PAIRS[0];
    let mut frame = Packet::new(client, node, Tcp::syn(1, 2)).bytes();
    for words in 0..5 {
        frame[14] = 0x40 | words;
        assert_eq!(read(&frame), Err(Reason::Unparsable), "{words} words");
    }
}

#[test]
fn an_icmp_error_that_quotes_another_version_is_unparsable() {
    for ((client, node), (other_client, other_node)) in [(PAIRS[0], PAIRS[1]), (PAIRS[1], PAIRS[0])]
    {
        let quoted = Packet::new(other_node, other_client, Tcp::syn(443, 40_000)).ip_bytes();
        let kind = if client.is_ipv4() { 3 } else { 1 };
        let packet = Packet::new(
            client,
            node,
            IcmpError {
                kind,
                code: 0,
                quoted,
            },
        );
        assert_eq!(read(&packet.bytes()), Err(Reason::Unparsable));
    }
}

#[test]
fn a_quoted_ipv4_header_below_20_bytes_is_unparsable() {
    let (client, node) = PAIRS[0];
    let mut error = IcmpError::too_big(&Packet::new(node, client, Tcp::syn(443, 40_000)));
    error.quoted[0] = 0x44;
    let packet = Packet::new(client, node, error);
    assert_eq!(read(&packet.bytes()), Err(Reason::Unparsable));
}

#[test]
fn an_extension_header_that_says_it_is_longer_than_the_packet_is_unparsable() {
    let (client, node) = PAIRS[1];
    for extension in Extension::ALL {
        let mut frame = Packet::new(client, node, Tcp::syn(1, 2))
            .extension(extension)
            .bytes();
        frame[14 + 40 + 1] = u8::MAX;
        assert_eq!(read(&frame), Err(Reason::Unparsable), "{extension:?}");
    }
}

#[test]
fn a_fragment_too_short_for_ports_is_unparsable() {
    for (client, node) in PAIRS {
        for (transport, header_bytes) in [
            (Transport::from(Tcp::syn(1, 2)), 16),
            (Udp::of_bytes(1, 2, 80).into(), 8),
        ] {
            let packet = Packet::new(client, node, transport);
            let first = |bytes| {
                packet.clone().cut(Cut {
                    id: 7,
                    offset: 0,
                    bytes,
                })
            };
            assert!(read(&first(header_bytes).bytes()).is_ok());
        }
        let tiny = Packet::new(client, node, Tcp::syn(1, 2)).cut(Cut {
            id: 7,
            offset: 0,
            bytes: 8,
        });
        assert_eq!(read(&tiny.bytes()), Err(Reason::Unparsable));
    }
}
