//! The guard: it drops malformed TCP to a frontend, and nothing else.

use std::vec::Vec;

use ingress_common::verdict::{Reason, Verdict};
use proptest::prelude::*;

use super::{CLIENT, HTTPS, NODE, Node};
use crate::decide::screen::guard;

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
        Reason::Opening
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

#[test]
fn denied_source_is_dropped_at_frontends_alone() {
    let node = Node {
        denied: Some(CLIENT),
        ..Node::default()
    };
    for flags in [0x02, 0x10, 0x18] {
        assert_eq!(
            guard(&frame(WHOLE, 5, flags, 20)[..], &node),
            Reason::Denied
        );
    }
    let mut other_port = frame(WHOLE, 5, 0x02, 20);
    other_port[36..38].copy_from_slice(&[0, 22]);
    assert_eq!(guard(&other_port[..], &node), Reason::NotOurs);
    let others = Node {
        denied: Some(NODE),
        ..Node::default()
    };
    assert_eq!(
        guard(&frame(WHOLE, 5, 0x02, 20)[..], &others),
        Reason::Opening
    );
}

#[test]
fn budget_is_for_new_connections_to_frontends() {
    let node = Node::default();
    node.connections.set(Some(2));
    let reason = |flags| guard(&frame(WHOLE, 5, flags, 20)[..], &node);
    let mut other_port = frame(WHOLE, 5, 0x02, 20);
    other_port[36..38].copy_from_slice(&[0, 22]);
    assert_eq!(guard(&other_port[..], &node), Reason::NotOurs);
    assert_eq!(
        [0x02, 0x02, 0x02].map(reason),
        [Reason::Opening, Reason::Opening, Reason::OverBudget]
    );
    // What is open goes on, and an answer to a SYN opens nothing.
    assert_eq!([0x10, 0x12].map(reason), [Reason::Accepted; 2]);
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

/// Flags and offset of fragments.
const WHOLE: [u8; 2] = [0, 0];
const MORE: [u8; 2] = [0x20, 0];
