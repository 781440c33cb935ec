//! Packets with changed bytes, cut short, or made of noise: no panic, and no contradiction between
//! our parser and another.

use ingress_tests::packet::{Cut, Extension, IcmpError, Packet, Tcp, Transport, Udp};
use proptest::prelude::*;
use proptest::sample::select;

use super::agreement;
use crate::PAIRS;

prop_compose! {
    fn transport()(
        ports: (u16, u16),
        flags: u8,
        payload in prop::collection::vec(any::<u8>(), 0..80),
        kind in 0..5_u8,
        options in 0..=10_usize,
    ) -> Transport {
        let (source, destination) = ports;
        let tcp = Tcp {
            options: vec![1; options * 4],
            payload: payload.clone(),
            ..Tcp::with_flags(source, destination, flags)
        };
        let udp = Udp { source, destination, payload };
        let quote = |pair: usize| {
            let (client, node) = PAIRS[pair];
            IcmpError::too_big(&Packet::new(node, client, tcp.clone()).option_words(options))
        };
        match kind {
            0 => tcp.into(),
            1 => udp.into(),
            2 => quote(0).into(),
            3 => quote(1).into(),
            _ => Transport::Other(flags, udp.payload),
        }
    }
}

prop_compose! {
    fn packet()(
        pair in 0..2_usize,
        transport in transport(),
        tags in prop::collection::vec(any::<bool>(), 0..4),
        words in 0..=10_usize,
        before in prop::collection::vec(select(&Extension::ALL[..]), 0..4),
        cut in prop::option::of((any::<u16>(), 0..3_usize, 1..9_usize)),
        behind in prop::collection::vec(select(&Extension::ALL[..]), 0..5),
    ) -> Vec<u8> {
        let (client, node) = PAIRS[pair];
        let mut packet = Packet::new(client, node, transport).option_words(words);
        for is_service in tags {
            packet = if is_service { packet.service_vlan(7) } else { packet.vlan(7) };
        }
        packet = before.into_iter().fold(packet, Packet::extension);
        if let Some((id, offset, bytes)) = cut {
            let cut = Cut { id: id.into(), offset: offset * 8, bytes: bytes * 8 };
            packet = packet.cut(cut);
        }
        behind.into_iter().fold(packet, Packet::extension).bytes()
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4096,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn two_parsers_agree_on_well_formed_packets(frame in packet()) {
        agreement::check(&frame);
    }

    #[test]
    fn two_parsers_agree_on_damaged_packets(
        mut frame in packet(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
    ) {
        for (at, byte) in damage {
            *at.get_mut(&mut frame[..]) = byte;
        }
        agreement::check(&frame);
        agreement::check(&frame[..end.index(frame.len())]);
    }

    #[test]
    fn two_parsers_agree_on_noise(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        agreement::check(&frame);
    }
}
