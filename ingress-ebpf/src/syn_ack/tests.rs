//! Answers to the SYNs of known clients, and to any other.

use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const NODE: Node = Node {
    cookie: 0x0102_0304,
    mss: 1460,
    clock_ms: 1_000_000,
    window_scale: 7,
};

/// Linux and Android: MSS, SACK, timestamp, NOP, window scale.
const LINUX: [u8; 20] = [
    2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 10,
];
/// Apple: MSS, NOP, window scale, NOP, NOP, timestamp, SACK, END.
const APPLE: [u8; 24] = [
    2, 4, 5, 0xb4, 1, 3, 3, 6, 1, 1, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 4, 2, 0, 0,
];
/// FreeBSD, and Windows with timestamps: MSS, NOP, window scale, SACK, timestamp.
const FREEBSD: [u8; 20] = [
    2, 4, 5, 0xb4, 1, 3, 3, 6, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0,
];
/// Windows: MSS, NOP, window scale, NOP, NOP, SACK.
const WINDOWS: [u8; 12] = [2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2];

/// The SYN of a client with these options, and the bytes of its header.
fn syn(options: &[u8]) -> (Header, usize) {
    let mut header = [0; TCP_BYTES_MAX];
    header[..8].copy_from_slice(&[0x9c, 0x40, 0x00, 0x50, 0xff, 0xff, 0xff, 0xff]);
    header[TCP_BYTES..TCP_BYTES + options.len()].copy_from_slice(options);
    let bytes = TCP_BYTES + options.len().next_multiple_of(4);
    header[12] = u8::try_from(bytes / 4).unwrap() << 4;
    header[13] = 0x02;
    (header, bytes)
}

fn answer(options: &[u8], node: &Node) -> Vec<u8> {
    let (mut header, bytes) = syn(options);
    let read = read(&header, bytes);
    write(&mut header, &read, node);
    assert_eq!(
        header[bytes..],
        [0; TCP_BYTES_MAX][bytes..],
        "it is no longer"
    );
    header[..bytes].to_vec()
}

/// The options of a header, each with its bytes, by a walk of any order (RFC 9293 §3.2).
fn walk(header: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (mut rest, mut found) = (&header[TCP_BYTES..], Vec::new());
    while let Some(kind) = rest.first() {
        let length = match *kind {
            END => break,
            NOP => 1,
            _ => usize::from(*rest.get(1)?),
        };
        if length == 0 || *kind != NOP && length < 2 {
            return None;
        }
        found.push(rest.get(..length)?.to_vec());
        rest = &rest[length..];
    }
    found.retain(|option| option[0] != NOP);
    Some(found)
}

#[test]
fn client_gets_what_it_offered_and_the_cookie() {
    let header = answer(&LINUX, &NODE);
    assert_eq!(header[..4], [0x00, 0x50, 0x9c, 0x40]);
    assert_eq!(header[4..8], [1, 2, 3, 4]);
    assert_eq!(header[8..12], [0, 0, 0, 0], "the number after the SYN's");
    assert_eq!(header[12..16], [0xa0, 0x12, 0xff, 0xff]);
    for (options, scale) in [(&LINUX[..], 10), (&APPLE, 6), (&FREEBSD, 6)] {
        let header = answer(options, &NODE);
        assert_eq!(header[20..28], [2, 4, 5, 0xb4, 4, 2, 8, 10]);
        let stamp = u32::from_be_bytes(header[28..32].try_into().unwrap());
        assert_eq!(stamp & 0x3f, 0x10 | scale, "SACK and the scale");
        assert!(stamp <= NODE.clock_ms && NODE.clock_ms - stamp <= 64);
        assert_eq!(header[32..40], [1, 2, 3, 4, 1, 3, 3, 7]);
    }
}

#[test]
fn client_without_sack_or_scale_is_offered_none() {
    let mut plain = LINUX;
    plain[4..6].copy_from_slice(&[1, 1]);
    let header = answer(&plain, &NODE);
    assert_eq!(header[24..28], [1, 1, 8, 10]);
    assert_eq!(header[31] & 0x3f, 10);
    let header = answer(&LINUX[..16], &NODE);
    assert_eq!(header[31] & 0x3f, 0x10 | NO_SCALE);
    assert_eq!(header.len(), 36);
}

#[test]
fn client_without_timestamps_is_offered_no_scale_and_no_sack() {
    let header = answer(&WINDOWS, &NODE);
    assert_eq!(header[20..], [2, 4, 5, 0xb4, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn client_without_options_gets_none() {
    assert_eq!(answer(&[], &NODE).len(), 20);
    assert_eq!(answer(&[1, 1, 4, 2], &NODE)[20..], [0; 4]);
}

#[test]
fn timestamp_is_never_ahead_of_the_clock() {
    for clock_ms in (0..300).chain(u32::MAX - 300..=u32::MAX) {
        let header = answer(&LINUX, &Node { clock_ms, ..NODE });
        let stamp = u32::from_be_bytes(header[28..32].try_into().unwrap());
        assert!(clock_ms.wrapping_sub(stamp) <= 64, "{clock_ms} {stamp}");
    }
}

#[test]
fn sources_that_no_client_has_are_known() {
    let v4 = |text: &str| {
        let address = text.parse::<std::net::Ipv4Addr>().unwrap();
        address.to_ipv6_mapped().octets()
    };
    let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    for no_client in ["0.1.2.3", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        assert!(!is_unicast(&v4(no_client)), "{no_client}");
    }
    for no_client in ["::", "::1", "ff02::1"] {
        assert!(!is_unicast(&v6(no_client)), "{no_client}");
    }
    assert!(is_unicast(&v4("192.0.2.1")) && is_unicast(&v4("10.0.0.1")));
    assert!(is_unicast(&v6("2001:db8::1")) && is_unicast(&v6("fe80::1")));
}

#[test]
fn checksum_makes_the_sum_of_all_words_come_out_even() {
    let sum = |bytes: &[u8]| -> u32 {
        let words = bytes
            .chunks(2)
            .map(|word| u16::from_ne_bytes([word[0], word[1]]));
        words.map(u32::from).sum()
    };
    for filler in [0, 1, 0x7f, 0xff] {
        let mut header = [filler; 20];
        header[16..18].fill(0);
        let before = sum(&header);
        set_checksum(&mut header, 16, before);
        let after = sum(&header);
        assert_eq!((after & 0xffff) + (after >> 16), 0xffff, "{filler}");
    }
}

proptest! {
    #[test]
    fn answer_to_any_options_is_well_formed_and_offers_nothing_new(
        options in prop_oneof![
            vec(any::<u8>(), 0..=40),
            // What begins as that of a client, and goes on in another way.
            (prop_oneof![Just(&LINUX[..]), Just(&APPLE[..]), Just(&FREEBSD[..])],
             0..24_usize, vec(any::<u8>(), 0..=16))
                .prop_map(|(known, end, rest)| {
                    [&known[..end.min(known.len())], &rest].concat()
                }),
        ],
    ) {
        let (header, bytes) = syn(&options);
        let (offered, answered) = (walk(&header[..bytes]), answer(&options, &NODE));
        let answered = walk(&answered).expect("a well-formed answer");
        // A client that sends nonsense may get anything; others only what they have offered.
        if let Some(offered) = offered {
            for option in answered {
                let same = |it: &&Vec<u8>| (it[0], it.len()) == (option[0], option.len());
                prop_assert!(offered.iter().any(|it| same(&it)), "{:?}", option);
            }
        }
    }
}
