//! steer: fragments of a steered datagram stay together.

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{Cut, Extension, Packet, Transport, Udp};
use ingress_tests::programs::{Programs, UDP_PORT};

use crate::{PAIRS, Pair, inbound, passed, redirected};

fn listening() -> Result<Programs> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_udp(0)?;
    Ok(programs)
}

/// A part of a datagram of 2008 bytes.
fn part(pair: Pair, id: u32, offset: usize) -> Packet {
    inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 2000)).cut(Cut {
        id,
        offset,
        bytes: 1000,
    })
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn later_fragments_follow_the_first() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let first = part(pair, 7, 0);
        assert_eq!(
            programs.steer(&first.bytes())?,
            redirected(Reason::Frontend, &first)
        );
        for later in [part(pair, 7, 1000), part(pair, 7, 2000)] {
            assert_eq!(
                programs.steer(&later.bytes())?,
                redirected(Reason::Fragment, &later)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn later_fragments_follow_the_first_for_half_a_minute() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        programs.steer(&part(pair, 7, 0).bytes())?;
        let later = part(pair, 7, 1000);
        programs.maps.age_fragments(20)?;
        assert_eq!(
            programs.steer(&later.bytes())?,
            redirected(Reason::Fragment, &later)
        );
        programs.maps.age_fragments(10)?;
        assert_eq!(
            programs.steer(&later.bytes())?,
            passed(Reason::UnknownFragment, &later)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_passed_datagram_is_forgotten_under_an_identification_that_is_used_again() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        programs.steer(&part(pair, 7, 0).bytes())?;
        let other = |offset| {
            inbound(pair, Udp::of_bytes(40_000, 53, 2000)).cut(Cut {
                id: 7,
                offset,
                bytes: 1000,
            })
        };
        for offset in [0, 1000] {
            let reason = programs.steer(&other(offset).bytes())?.reason;
            assert!(matches!(reason, Reason::NotOurs | Reason::UnknownFragment));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_fragment_of_another_protocol_does_not_follow() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        programs.steer(&part(pair, 7, 0).bytes())?;
        let other = inbound(pair, Transport::Other(132, vec![0; 2000])).cut(Cut {
            id: 7,
            offset: 1000,
            bytes: 1000,
        });
        assert_eq!(
            programs.steer(&other.bytes())?,
            passed(Reason::UnknownFragment, &other)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_later_fragment_whose_first_was_not_seen_is_passed() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let later = part(pair, 7, 1000);
        assert_eq!(
            programs.steer(&later.bytes())?,
            passed(Reason::UnknownFragment, &later)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_fragment_of_another_datagram_does_not_follow() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        programs.steer(&part(pair, 7, 0).bytes())?;
        let (client, node) = pair;
        let udp = Udp::of_bytes(40_000, UDP_PORT, 2000);
        let reply = Packet::new(node, client, udp).cut(Cut {
            id: 7,
            offset: 1000,
            bytes: 1000,
        });
        for other in [part(pair, 8, 1000), reply] {
            assert_eq!(
                programs.steer(&other.bytes())?,
                passed(Reason::UnknownFragment, &other)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn fragments_of_a_passed_datagram_are_passed() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let cut = |offset| {
            inbound(pair, Udp::of_bytes(40_000, 53, 2000)).cut(Cut {
                id: 7,
                offset,
                bytes: 1000,
            })
        };
        assert_eq!(
            programs.steer(&cut(0).bytes())?,
            passed(Reason::NotOurs, &cut(0))
        );
        let later = cut(1000);
        assert_eq!(
            programs.steer(&later.bytes())?,
            passed(Reason::UnknownFragment, &later)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn fragments_follow_whatever_extension_headers_the_datagram_has() -> Result<()> {
    let mut programs = listening()?;
    for (id, before, behind) in [
        (1, Some(Extension::HopByHop), None),
        (2, None, Some(Extension::DestinationOptions)),
        (3, Some(Extension::Routing), Some(Extension::Authentication)),
    ] {
        let cut = |offset| {
            let datagram = inbound(PAIRS[1], Udp::of_bytes(40_000, UDP_PORT, 2000));
            let datagram = before.into_iter().fold(datagram, Packet::extension);
            let fragment = datagram.cut(Cut {
                id,
                offset,
                bytes: 1000,
            });
            behind.into_iter().fold(fragment, Packet::extension)
        };
        assert_eq!(
            programs.steer(&cut(0).bytes())?,
            redirected(Reason::Frontend, &cut(0))
        );
        let later = cut(1000);
        assert_eq!(
            programs.steer(&later.bytes())?,
            redirected(Reason::Fragment, &later)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_fragment_that_is_the_whole_datagram_is_steered_and_not_remembered() -> Result<()> {
    let mut programs = listening()?;
    // RFC 6946: an atomic fragment.
    let udp = Udp::of_bytes(40_000, UDP_PORT, 100);
    let whole = inbound(PAIRS[1], udp).cut(Cut {
        id: 7,
        offset: 0,
        bytes: 1000,
    });
    assert_eq!(
        programs.steer(&whole.bytes())?,
        redirected(Reason::Frontend, &whole)
    );
    let later = part(PAIRS[1], 7, 1000);
    assert_eq!(
        programs.steer(&later.bytes())?,
        passed(Reason::UnknownFragment, &later)
    );
    Ok(())
}
