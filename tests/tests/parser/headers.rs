//! Whatever headers stand before it, the parser finds what the packet was built from.

use std::net::IpAddr;

use ingress_common::verdict::Reason;
use ingress_ebpf::parse::{End, Fragment, Identity, Transport, Version};
use ingress_tests::packet::{Cut, Extension, IcmpError, Packet, Tcp, Transport as Built, Udp};

use crate::{PAIRS, address, read};

/// A packet and what the parser must make of it.
struct Case {
    packet: Packet,
    fragment: Fragment,
    /// Of a fragment.
    identity: Option<Identity>,
    transport: Transport,
}

/// Everything that may stand before the transport layer, around one transport.
fn cases(pair: (IpAddr, IpAddr), built: &Built, transport: Transport) -> Vec<Case> {
    let mut cases = Vec::new();
    for packet in tagged(&Packet::new(pair.0, pair.1, built.clone())) {
        for packet in lengthened(&packet, pair.0.is_ipv4()) {
            cases.extend(fragmented(&packet, pair.0.is_ipv4(), transport));
        }
    }
    cases
}

/// With none, one and two VLAN tags.
fn tagged(packet: &Packet) -> Vec<Packet> {
    let packet = || packet.clone();
    vec![
        packet(),
        packet().vlan(7),
        packet().service_vlan(7),
        packet().vlan(7).vlan(8),
        packet().service_vlan(7).vlan(8),
    ]
}

/// With every length of IPv4 options, or up to three IPv6 extension headers in any order.
fn lengthened(packet: &Packet, is_ipv4: bool) -> Vec<Packet> {
    let packet = || packet.clone();
    if is_ipv4 {
        return (0..=10).map(|words| packet().option_words(words)).collect();
    }
    let mut all = vec![packet()];
    let mut longest = all.clone();
    for _ in 0..3 {
        longest = longest.iter().flat_map(with_each_extension).collect();
        all.extend(longest.clone());
    }
    all
}

fn with_each_extension(packet: &Packet) -> impl Iterator<Item = Packet> + use<> {
    let packet = packet.clone();
    Extension::ALL
        .into_iter()
        .map(move |extension| packet.clone().extension(extension))
}

/// Whole, as the first fragment and as a later one.
fn fragmented(packet: &Packet, is_ipv4: bool, transport: Transport) -> [Case; 3] {
    let id = if is_ipv4 { 0x0506 } else { 0x0304_0506 };
    // As far as the ports, which an error has in the packet that it quotes.
    let bytes = if is_ipv4 { 40 } else { 56 };
    let first = packet.clone().cut(Cut {
        id,
        offset: 0,
        bytes,
    });
    let later = packet.clone().cut(Cut {
        id,
        offset: bytes,
        bytes,
    });
    let identity = |packet: &Packet| Identity {
        id: id.to_be_bytes(),
        protocol: packet.next_of_cut(),
    };
    let (of_first, of_later) = (identity(&first), identity(&later));
    [
        Case {
            packet: packet.clone(),
            fragment: Fragment::Whole,
            identity: None,
            transport,
        },
        Case {
            packet: first,
            fragment: Fragment::First,
            identity: Some(of_first),
            transport,
        },
        Case {
            packet: later,
            fragment: Fragment::Later,
            identity: Some(of_later),
            transport: Transport::None,
        },
    ]
}

fn end(ip: IpAddr, port: u16) -> End {
    End {
        address: address(ip),
        port: port.to_be_bytes(),
    }
}

fn check(pair: (IpAddr, IpAddr), built: &Built, transport: Transport) {
    for case in cases(pair, built, transport) {
        let (network, transport) = read(&case.packet.bytes()).expect("it is well-formed");
        let packet = &case.packet;
        let version = if pair.0.is_ipv4() {
            Version::V4
        } else {
            Version::V6
        };
        assert_eq!(network.version, version, "{packet:?}");
        assert_eq!(network.source, address(pair.0), "{packet:?}");
        assert_eq!(network.destination, address(pair.1), "{packet:?}");
        assert_eq!(network.fragment, case.fragment, "{packet:?}");
        if let Some(identity) = case.identity {
            assert_eq!(network.identity, identity, "{packet:?}");
        }
        assert_eq!(transport, case.transport, "{packet:?}");
    }
}

#[test]
fn tcp_is_found_behind_everything() {
    for pair in PAIRS {
        let payload = vec![0xaa; 100];
        for flags in [Tcp::SYN, Tcp::ACK | Tcp::PSH, 0xff] {
            let tcp = Tcp {
                payload: payload.clone(),
                ..Tcp::with_flags(40_000, 443, flags)
            };
            let transport = Transport::Tcp {
                source: 40_000_u16.to_be_bytes(),
                destination: 443_u16.to_be_bytes(),
                flags,
            };
            check(pair, &tcp.into(), transport);
        }
    }
}

#[test]
fn udp_is_found_behind_everything() {
    for pair in PAIRS {
        let transport = Transport::Udp {
            source: 40_000_u16.to_be_bytes(),
            destination: 53_u16.to_be_bytes(),
        };
        check(pair, &Udp::of_bytes(40_000, 53, 100).into(), transport);
    }
}

#[test]
fn a_quoted_flow_is_found_behind_everything() {
    for pair in PAIRS {
        let kinds: &[u8] = if pair.0.is_ipv4() {
            &[3, 11, 12]
        } else {
            &[1, 2, 3, 4]
        };
        let quoted = Packet::new(pair.1, pair.0, Tcp::with_flags(443, 40_000, Tcp::ACK));
        for kind in kinds {
            let error = IcmpError {
                kind: *kind,
                ..IcmpError::too_big(&quoted)
            };
            let transport = Transport::IcmpError {
                protocol: 6,
                local: end(pair.1, 443),
                remote: end(pair.0, 40_000),
            };
            check(pair, &error.into(), transport);
        }
    }
}

#[test]
fn a_quoted_flow_is_found_behind_quoted_ipv4_options() {
    let (client, node) = PAIRS[0];
    for words in 0..=10 {
        let quoted = Packet::new(node, client, Udp::of_bytes(53, 40_000, 0)).option_words(words);
        let error = IcmpError::too_big(&quoted).shortest();
        let (_, transport) = read(&Packet::new(client, node, error).bytes()).expect("well-formed");
        assert_eq!(
            transport,
            Transport::IcmpError {
                protocol: 17,
                local: end(node, 53),
                remote: end(client, 40_000),
            }
        );
    }
}

#[test]
fn a_quoted_first_fragment_has_ports_and_a_later_one_has_none() {
    let (client, node) = PAIRS[0];
    let quote = |offset| {
        let udp = Udp::of_bytes(53, 40_000, 200);
        let quoted = Packet::new(node, client, udp).cut(Cut {
            id: 1,
            offset,
            bytes: 80,
        });
        read(&Packet::new(client, node, IcmpError::too_big(&quoted)).bytes())
    };
    assert!(matches!(
        quote(0),
        Ok((_, Transport::IcmpError { protocol: 17, .. }))
    ));
    assert_eq!(quote(80), Err(Reason::OtherProtocol));
}

#[test]
fn icmp_that_quotes_no_tcp_or_udp_is_another_protocol() {
    for (client, node) in PAIRS {
        let quoted = Packet::new(node, client, Built::Other(132, vec![0; 12]));
        let error = Packet::new(client, node, IcmpError::too_big(&quoted));
        assert_eq!(read(&error.bytes()), Err(Reason::OtherProtocol));
    }
}

#[test]
fn icmp_of_the_other_version_is_another_protocol() {
    for ((client, node), icmp) in PAIRS.into_iter().zip([58, 1]) {
        let quoted = Packet::new(node, client, Tcp::syn(443, 40_000)).ip_bytes();
        let message = [vec![3, 0, 0, 0, 0, 0, 0, 0], quoted].concat();
        let packet = Packet::new(client, node, Built::Other(icmp, message));
        assert_eq!(read(&packet.bytes()), Err(Reason::OtherProtocol));
    }
}

#[test]
fn only_errors_of_icmp_quote_a_packet() {
    for (client, node) in PAIRS {
        let errors: &[u8] = if client.is_ipv4() {
            &[3, 11, 12]
        } else {
            &[1, 2, 3, 4]
        };
        let quoted = Packet::new(node, client, Tcp::syn(443, 40_000));
        for kind in 0..=u8::MAX {
            let error = IcmpError {
                kind,
                ..IcmpError::too_big(&quoted)
            };
            let transport = read(&Packet::new(client, node, error).bytes());
            assert_eq!(transport.is_ok(), errors.contains(&kind), "type {kind}");
        }
    }
}

#[test]
fn other_protocols_are_told_apart_from_broken_packets() {
    for (client, node) in PAIRS {
        // Those that are walked over, TCP and UDP; ICMP has its own tests.
        let known = [0, 1, 6, 17, 43, 44, 51, 58, 60];
        for protocol in (0..=u8::MAX).filter(|protocol| !known.contains(protocol)) {
            let packet = Packet::new(client, node, Built::Other(protocol, vec![0; 40]));
            assert_eq!(
                read(&packet.bytes()),
                Err(Reason::OtherProtocol),
                "{protocol}"
            );
        }
    }
}

#[test]
fn authentication_headers_are_looked_behind_in_ipv6_only() {
    let [(client, node), (client6, node6)] = PAIRS;
    let tcp = || Tcp::syn(40_000, 443);
    let behind = Packet::new(client6, node6, tcp()).extension(Extension::Authentication);
    assert!(read(&behind.bytes()).is_ok());
    // A header of 24 bytes that TCP follows.
    let header = [vec![6, 4, 0, 0, 0, 0, 0, 1], vec![0; 16]].concat();
    let tcp = Packet::new(client, node, tcp()).bytes().split_off(34);
    let packet = Packet::new(client, node, Built::Other(51, [header, tcp].concat()));
    assert_eq!(read(&packet.bytes()), Err(Reason::OtherProtocol));
}
