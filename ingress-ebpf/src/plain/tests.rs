//! What is read at fixed places is what the parser reads, whatever the bytes are.

use std::vec::Vec;

use proptest::prelude::*;

use super::{older, routed, segment, slot};
use crate::parse::{self, Fragment, Network, Transport, protocol};

/// A frame that is nearly plain: each of the bytes that decide may be anything.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![
        Just([0x08, 0x00]),
        Just([0x86, 0xdd]),
        Just([0x81, 0x00]),
        any::<[u8; 2]>()
    ];
    let first = prop_oneof![4 => Just(0x45), 4 => Just(0x60), 1 => any::<u8>()];
    let fragment = prop_oneof![3 => Just([0x40, 0]), 1 => any::<[u8; 2]>()];
    let next = prop_oneof![4 => Just(protocol::TCP), 1 => any::<u8>()];
    let bytes = prop::collection::vec(any::<u8>(), 34..120);
    (bytes, ether_type, first, fragment, next).prop_map(
        |(mut bytes, kind, first, fragment, next)| {
            bytes[12..14].copy_from_slice(&kind);
            bytes[14] = first;
            let at = if kind == [0x86, 0xdd] { 20 } else { 23 };
            bytes[at] = next;
            if at == 23 {
                bytes[20..22].copy_from_slice(&fragment);
            }
            bytes
        },
    )
}

fn network(frame: &[u8]) -> Network {
    let link = parse::link(frame).unwrap();
    parse::network(frame, link).unwrap()
}

fn bytes(address: [u64; 2]) -> Vec<u8> {
    address.iter().flat_map(|half| half.to_ne_bytes()).collect()
}

proptest! {
    #[test]
    fn plain_segment_is_what_the_parser_reads(frame in frame()) {
        if let Some(segment) = segment(&frame[..]) {
            let network = network(&frame);
            prop_assert_eq!(network.fragment, Fragment::Whole);
            prop_assert_eq!(&bytes(segment.source), &network.source);
            prop_assert_eq!(&bytes(segment.destination), &network.destination);
            let [a, b, c, d] = segment.ports.to_ne_bytes();
            let tcp = Transport::Tcp { source: [a, b], destination: [c, d], flags: segment.flags };
            prop_assert_eq!(parse::transport(&frame[..], &network), Ok(tcp));
            prop_assert_eq!(segment.header_bytes, network.payload + segment.tcp_bytes);
        }
    }

    #[test]
    fn router_reads_what_the_parser_reads(frame in frame()) {
        if let Some(routed) = routed(&frame[..])
            && let Ok(network) = parse::link(&frame[..]).and_then(|link| parse::network(&frame[..], link))
        {
            prop_assert_eq!(&bytes(routed.source), &network.source);
            prop_assert_eq!(&bytes(routed.destination), &network.destination);
            let at = if routed.checksum.is_some() { 22 } else { 21 };
            prop_assert_eq!(routed.ttl, frame[at]);
        }
    }

    #[test]
    fn segment_without_options_is_plain(v6: bool, mut bytes in prop::collection::vec(any::<u8>(), 74..120)) {
        let (ether_type, first, at): (u16, u8, usize) =
            if v6 { (0x86dd, 0x60, 20) } else { (0x0800, 0x45, 23) };
        bytes[12..14].copy_from_slice(&ether_type.to_be_bytes());
        (bytes[14], bytes[at]) = (first, protocol::TCP);
        if !v6 {
            bytes[20..22].copy_from_slice(&[0x40, 0]);
        }
        prop_assert!(segment(&bytes[..]).is_some());
        prop_assert!(routed(&bytes[..]).is_some());
    }

    #[test]
    fn checksum_of_an_older_header_is_the_sum_of_its_words(mut words: [u16; 10], ttl in 1..=255_u8) {
        words[4] = u16::from_be_bytes([ttl, 6]);
        words[5] = 0;
        // An all-zero sum is that of no header: it has a version.
        words[0] |= 0x4500;
        words[5] = sum(&words);
        let old = words[5].to_be();
        words[4] = u16::from_be_bytes([ttl - 1, 6]);
        words[5] = 0;
        prop_assert_eq!(older(old), sum(&words).to_be());
    }

    #[test]
    fn slots_are_those_of_the_table(words: [u64; 4], key: [u32; 2]) {
        prop_assert!(slot(words, key, 1024) < 1024);
    }
}

/// The checksum of a header (RFC 1071).
fn sum(words: &[u16]) -> u16 {
    let sum: u32 = words.iter().map(|word| u32::from(*word)).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

#[test]
fn clients_cannot_choose_connections_that_share_a_slot() {
    let words = |number: u64| [number, 2, 3, 4];
    let slots = |key| (0..64).map(move |number| slot(words(number), key, 1024));
    let same = slots([1, 2]).zip(slots([3, 4])).filter(|(a, b)| a == b);
    assert!(same.count() < 8);
    let used: std::collections::HashSet<u32> = slots([1, 2]).collect();
    assert!(used.len() > 50);
}
