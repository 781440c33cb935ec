//! What is ours, what is not, and that nothing else is ever dropped.

use std::collections::HashSet;
use std::vec::Vec;

use ingress_common::steering::{Address, FragmentedDatagram, Frontend, Settings, mapped};
use ingress_common::verdict::{Reason, Verdict};
use proptest::prelude::*;

use super::{Destination, Tables, datagram, guard, steer};
use crate::parse::{Fragment, Network, Transport, Version, protocol};

/// A node at one address, with one TCP frontend of group 3.
#[derive(Default)]
struct Node {
    steered: HashSet<FragmentedDatagram>,
}

impl Tables for Node {
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        let Frontend {
            address,
            port,
            protocol,
            reserved,
        } = *frontend;
        let is_ours = (address, port, protocol) == (NODE, HTTPS, protocol::TCP);
        assert_eq!(reserved, 0);
        is_ours.then_some(3)
    }

    fn is_upstream_source(&self, address: &Address) -> bool {
        *address == NODE
    }

    fn is_steered_datagram(&self, datagram: &FragmentedDatagram) -> bool {
        self.steered.contains(datagram)
    }
}

fn network(protocol: u8, fragment: Fragment) -> Network {
    Network {
        version: Version::V4,
        offset: 14,
        payload: 34,
        protocol,
        fragment,
        source: CLIENT,
        destination: NODE,
    }
}

fn tcp(destination: [u8; 2], flags: u8) -> Transport {
    Transport::Tcp {
        source: [0x9c, 0x40],
        destination,
        flags,
    }
}

fn decide(network: &Network, transport: Transport) -> Destination {
    steer(network, &transport, &SETTINGS, &Node::default())
}

#[test]
fn only_a_syn_without_ack_opens_a_connection() {
    let network = network(protocol::TCP, Fragment::Whole);
    for flags in 0..=u8::MAX {
        let opens = flags & 0x12 == 0x02;
        let expected = Destination::Frontend { group: 3, opens };
        assert_eq!(
            decide(&network, tcp(HTTPS, flags)),
            expected,
            "flags {flags:#x}"
        );
    }
}

#[test]
fn upstream_connections_are_known_by_both_ends_of_their_port_range() {
    let network = network(protocol::TCP, Fragment::Whole);
    for (port, expected) in [
        (19_999, Destination::Host(Reason::NotOurs)),
        (20_000, Destination::Upstream),
        (29_999, Destination::Upstream),
        (30_000, Destination::Host(Reason::NotOurs)),
    ] {
        assert_eq!(
            decide(&network, tcp(u16::to_be_bytes(port), 0x10)),
            expected,
            "{port}"
        );
    }
    let elsewhere = Network {
        destination: CLIENT,
        ..network
    };
    let transport = tcp(u16::to_be_bytes(20_000), 0x10);
    assert_eq!(
        decide(&elsewhere, transport),
        Destination::Host(Reason::NotOurs)
    );
}

#[test]
fn a_datagram_is_of_a_frontend_of_its_own_protocol_only() {
    let network = network(protocol::UDP, Fragment::Whole);
    for port in [HTTPS, u16::to_be_bytes(20_000)] {
        let transport = Transport::Udp {
            source: [0, 53],
            destination: port,
        };
        assert_eq!(
            decide(&network, transport),
            Destination::Host(Reason::NotOurs)
        );
    }
}

#[test]
fn an_icmp_error_goes_where_its_quoted_flow_lives() {
    let network = network(protocol::ICMP, Fragment::Whole);
    let error = |protocol, source, port| Transport::IcmpError {
        protocol,
        source,
        port,
    };
    let ours = Destination::Ingress(Reason::IcmpError);
    let others = Destination::Host(Reason::NotOurs);
    let upstream = u16::to_be_bytes(20_000);
    for (transport, expected) in [
        (error(protocol::TCP, NODE, HTTPS), ours),
        (error(protocol::TCP, NODE, upstream), ours),
        (error(protocol::UDP, NODE, HTTPS), others),
        (error(protocol::UDP, NODE, upstream), others),
        (error(protocol::TCP, CLIENT, HTTPS), others),
        (error(protocol::TCP, NODE, [0, 22]), others),
    ] {
        assert_eq!(decide(&network, transport), expected, "{transport:?}");
    }
}

#[test]
fn a_later_fragment_follows_a_remembered_first_one() {
    let first = network(protocol::UDP, Fragment::First([0, 0, 1, 2]));
    let later = network(protocol::UDP, Fragment::Later([0, 0, 1, 2]));
    let mut node = Node::default();
    let decide = |node: &Node| steer(&later, &Transport::None, &SETTINGS, node);
    assert_eq!(decide(&node), Destination::Host(Reason::UnknownFragment));
    node.steered.extend(datagram(&first));
    assert_eq!(decide(&node), Destination::Ingress(Reason::Fragment));
}

#[test]
fn ipv4_datagrams_differ_by_protocol_and_ipv6_datagrams_do_not() {
    let key = |version, protocol| {
        let fragment = Fragment::Later([0, 0, 0, 1]);
        datagram(&Network {
            version,
            ..network(protocol, fragment)
        })
    };
    assert_ne!(
        key(Version::V4, protocol::TCP),
        key(Version::V4, protocol::UDP)
    );
    // RFC 8200 §4.5: the next headers of fragments of one packet may differ.
    assert_eq!(key(Version::V6, protocol::UDP), key(Version::V6, 60));
    assert_eq!(datagram(&network(protocol::UDP, Fragment::Whole)), None);
}

/// An Ethernet frame with an IPv4 packet to the frontend, cut after `payload_bytes` of TCP.
fn frame(fragment: [u8; 2], header_words: u8, flags: u8, payload_bytes: usize) -> Vec<u8> {
    let mut frame = std::vec![0; 12];
    frame.extend([
        0x08,
        0x00,
        0x45,
        0,
        0,
        0,
        0,
        7,
        fragment[0],
        fragment[1],
        64,
        6,
        0,
        0,
    ]);
    frame.extend(&CLIENT[12..]);
    frame.extend(&NODE[12..]);
    let mut tcp = std::vec![0x9c, 0x40, HTTPS[0], HTTPS[1], 0, 0, 0, 1, 0, 0, 0, 2];
    tcp.extend([header_words << 4, flags]);
    tcp.resize(payload_bytes, 0);
    frame.extend(tcp);
    frame
}

#[test]
fn a_header_that_goes_on_in_the_next_fragment_is_not_too_short() {
    let node = Node::default();
    assert_eq!(
        guard(&frame(WHOLE, 15, 0x02, 24)[..], &node),
        Reason::TcpHeaderLength
    );
    assert_eq!(
        guard(&frame(MORE, 15, 0x02, 24)[..], &node),
        Reason::Accepted
    );
    assert_eq!(
        guard(&frame(MORE, 4, 0x02, 24)[..], &node),
        Reason::TcpHeaderLength
    );
    assert_eq!(
        guard(&frame(MORE, 15, 0x00, 24)[..], &node),
        Reason::TcpNull
    );
}

proptest! {
    #[test]
    fn nothing_is_dropped_but_tcp_to_a_frontend(
        flags: u8,
        header_words in 0..16_u8,
        payload_bytes in 14..80_usize,
        port: [u8; 2],
        mut bytes in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let node = Node::default();
        let mut frame = frame(WHOLE, header_words, flags, payload_bytes);
        let is_ours = port == HTTPS;
        frame[36..38].copy_from_slice(&port);
        prop_assert!(is_ours || guard(&frame[..], &node).verdict() == Verdict::Pass);
        // Noise, and noise that at least says it is IPv4.
        prop_assert_eq!(guard(&bytes[..], &node).verdict(), Verdict::Pass);
        if let Some(ether_type) = bytes.get_mut(12..14) {
            ether_type.copy_from_slice(&[0x08, 0x00]);
            prop_assert_eq!(guard(&bytes[..], &node).verdict(), Verdict::Pass);
        }
    }
}

const SETTINGS: Settings = Settings {
    gate_ifindex: 1,
    workers: 1,
    upstream_port_min: 20_000,
    upstream_port_max: 29_999,
    ingress_netns: 0,
};
const NODE: Address = mapped([192, 0, 2, 1]);
const CLIENT: Address = mapped([198, 51, 100, 7]);
const HTTPS: [u8; 2] = [0x01, 0xbb];
const WHOLE: [u8; 2] = [0, 0];
const MORE: [u8; 2] = [0x20, 0];
