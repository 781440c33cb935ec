//! guard: what it drops, and what it must not drop.

use anyhow::Result;
use ingress_common::guard::{GuardSettings, NO_TABLE};
use ingress_common::verdict::{Reason, Verdict};
use ingress_tests::packet::{Cut, Extension, IcmpError, Packet, Tcp, Transport, Udp};
use ingress_tests::programs::{Programs, TCP_PORT, UDP_PORT, XDP_DROP, XDP_PASS};

use crate::{PAIRS, inbound};

/// Runs guard on a frame: its action fits its reason, and it never changes a byte.
fn judge(programs: &mut Programs, frame: &[u8]) -> Result<Reason> {
    let outcome = programs.guard(frame)?;
    let action = match outcome.reason.verdict() {
        Verdict::Drop => XDP_DROP,
        Verdict::Pass | Verdict::Redirect => XDP_PASS,
    };
    assert_eq!(outcome.action, action, "{:?}", outcome.reason);
    assert_eq!(outcome.packet, frame);
    Ok(outcome.reason)
}

/// TCP that no stack should see, with the reason that it is dropped for at a frontend.
fn malformed(port: u16) -> Vec<(Tcp, Reason)> {
    let with = |flags| Tcp::with_flags(40_000, port, flags);
    let claims = |words| Tcp {
        header_words: Some(words),
        ..with(Tcp::SYN)
    };
    vec![
        (with(0), Reason::TcpNull),
        (with(Tcp::FIN | Tcp::PSH | Tcp::URG), Reason::TcpXmas),
        (with(0x3f & !Tcp::SYN), Reason::TcpXmas),
        (with(Tcp::SYN | Tcp::FIN), Reason::TcpSynFin),
        (with(Tcp::SYN | Tcp::RST), Reason::TcpSynFin),
        (with(0x3f), Reason::TcpSynFin),
        (Tcp::syn(0, port), Reason::TcpPortZero),
        (claims(4), Reason::TcpHeaderLength),
        (claims(0), Reason::TcpHeaderLength),
        (claims(6), Reason::TcpHeaderLength),
        (claims(15), Reason::TcpHeaderLength),
    ]
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn malformed_tcp_to_a_frontend_is_dropped() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        for (tcp, reason) in malformed(TCP_PORT) {
            let packet = inbound(pair, tcp);
            assert_eq!(judge(&mut programs, &packet.bytes())?, reason, "{packet:?}");
            let tagged = packet.vlan(7);
            assert_eq!(judge(&mut programs, &tagged.bytes())?, reason, "{tagged:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn malformed_tcp_to_others_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for (client, node) in PAIRS {
        for (tcp, _) in malformed(22) {
            let other_port = inbound((client, node), tcp);
            assert_eq!(judge(&mut programs, &other_port.bytes())?, Reason::NotOurs);
        }
        for (tcp, _) in malformed(TCP_PORT) {
            let other_address = Packet::new(node, client, tcp);
            assert_eq!(
                judge(&mut programs, &other_address.bytes())?,
                Reason::NotOurs
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn malformed_tcp_is_passed_while_no_frontend_is_known() -> Result<()> {
    let mut programs = Programs::load()?;
    for (tcp, _) in malformed(TCP_PORT) {
        let packet = inbound(PAIRS[0], tcp);
        assert_eq!(judge(&mut programs, &packet.bytes())?, Reason::NotOurs);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn malformed_tcp_is_found_behind_options_and_extension_headers() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for (tcp, reason) in malformed(TCP_PORT) {
        let v4 = inbound(PAIRS[0], tcp.clone()).option_words(10);
        assert_eq!(judge(&mut programs, &v4.bytes())?, reason);
        for extension in Extension::ALL {
            let v6 = inbound(PAIRS[1], tcp.clone()).extension(extension);
            assert_eq!(judge(&mut programs, &v6.bytes())?, reason);
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn ordinary_packets_to_a_frontend_are_accepted() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let options = Tcp {
            options: vec![1; 40],
            ..Tcp::syn(40_000, TCP_PORT)
        };
        let segment = Tcp {
            payload: vec![1; 1400],
            ..Tcp::with_flags(40_000, TCP_PORT, Tcp::ACK | Tcp::PSH)
        };
        let error = IcmpError::too_big(&inbound(pair, options.clone()));
        let transports: [Transport; 6] = [
            Tcp::syn(40_000, TCP_PORT).into(),
            options.into(),
            segment.into(),
            Udp::of_bytes(40_000, UDP_PORT, 100).into(),
            error.into(),
            Transport::Other(132, vec![0; 12]),
        ];
        for (position, transport) in transports.into_iter().enumerate() {
            let packet = inbound(pair, transport);
            let reason = if position < 2 {
                Reason::Opening
            } else {
                Reason::Accepted
            };
            assert_eq!(judge(&mut programs, &packet.bytes())?, reason, "{packet:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn fragments_are_never_taken_for_malformed_headers() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let segment = Tcp {
            options: vec![1; 40],
            payload: vec![0; 64],
            ..Tcp::syn(1, TCP_PORT)
        };
        // The header goes on in the next fragment, and a later one is zeros all over.
        for (offset, bytes) in [(0, 24), (0, 16), (24, 64), (64, 64)] {
            let packet = inbound(pair, segment.clone()).cut(Cut {
                id: 7,
                offset,
                bytes,
            });
            let reason = judge(&mut programs, &packet.bytes())?;
            let expected = if offset == 0 {
                Reason::Opening
            } else {
                Reason::Accepted
            };
            assert_eq!(reason, expected, "{packet:?}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn unparsable_packet_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let v4 = || inbound(PAIRS[0], Tcp::with_flags(40_000, TCP_PORT, 0));
    let three_tags = v4().vlan(1).vlan(2).vlan(3);
    assert_eq!(judge(&mut programs, &three_tags.bytes())?, Reason::TooDeep);
    let mut arp = v4().bytes();
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    assert_eq!(judge(&mut programs, &arp)?, Reason::NotIp);
    let mut version = v4().bytes();
    version[14] = 0x55;
    assert_eq!(judge(&mut programs, &version)?, Reason::Unparsable);
    let deep = (0..7).fold(
        inbound(PAIRS[1], Tcp::with_flags(40_000, TCP_PORT, 0)),
        |packet, _| packet.extension(Extension::DestinationOptions),
    );
    assert_eq!(judge(&mut programs, &deep.bytes())?, Reason::TooDeep);
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_cut_anywhere_is_dropped_only_when_its_tcp_header_shows_a_fault() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let frame = inbound(pair, Tcp::syn(40_000, TCP_PORT)).vlan(7).bytes();
        let tcp = frame.len() - 20;
        for end in 14..frame.len() {
            let expected = if end < tcp + 14 {
                Reason::Unparsable
            } else {
                Reason::TcpHeaderLength
            };
            assert_eq!(
                judge(&mut programs, &frame[..end])?,
                expected,
                "{end} bytes"
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_in_several_buffers_is_judged_like_any_other() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    // More than a page: the kernel gives what does not fit in fragments of the XDP buffer.
    let payload = vec![1; 3800];
    let fine = Tcp {
        payload: payload.clone(),
        ..Tcp::with_flags(1, TCP_PORT, Tcp::ACK)
    };
    let null = Tcp {
        payload,
        ..Tcp::with_flags(1, TCP_PORT, 0)
    };
    assert_eq!(
        judge(&mut programs, &inbound(PAIRS[0], fine).bytes())?,
        Reason::Accepted
    );
    assert_eq!(
        judge(&mut programs, &inbound(PAIRS[0], null).bytes())?,
        Reason::TcpNull
    );
    Ok(())
}

/// Nothing is denied, and connections have no budget.
const OPEN: GuardSettings = GuardSettings {
    denied_table: NO_TABLE,
    answers_syns: 0,
    window_scale: 0,
    interval_ns: 0,
    burst_ns: 0,
    v4_mask: [0xff; 16],
    v6_mask: [0xff; 16],
};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn denied_network_reaches_no_frontend() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for (client, node) in PAIRS {
        let bits = if client.is_ipv4() { 120 } else { 64 };
        programs.maps.deny(client, bits, 0)?;
        let syn = inbound((client, node), Tcp::syn(40_000, TCP_PORT)).bytes();
        // The table is not in force yet.
        programs.maps.set_guard(OPEN)?;
        assert_eq!(judge(&mut programs, &syn)?, Reason::Opening);
        let denied_table = 1;
        programs.maps.set_guard(GuardSettings {
            denied_table,
            ..OPEN
        })?;
        assert_eq!(judge(&mut programs, &syn)?, Reason::Denied);
        let inside = Tcp::with_flags(40_000, TCP_PORT, Tcp::ACK);
        let inside = inbound((client, node), inside).bytes();
        assert_eq!(judge(&mut programs, &inside)?, Reason::Denied);
        let ssh = inbound((client, node), Tcp::syn(40_000, 22)).bytes();
        assert_eq!(judge(&mut programs, &ssh)?, Reason::NotOurs);
        // An entry whose time has ended denies nobody.
        programs.maps.deny(client, bits, 1)?;
        assert_eq!(judge(&mut programs, &syn)?, Reason::Opening);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn source_opens_no_more_connections_than_its_burst() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let hour = 3_600_000_000_000;
    programs.maps.set_guard(GuardSettings {
        interval_ns: hour,
        burst_ns: 2 * hour,
        ..OPEN
    })?;
    for pair in PAIRS {
        let syn = inbound(pair, Tcp::syn(40_000, TCP_PORT)).bytes();
        for expected in [Reason::Opening, Reason::Opening, Reason::OverBudget] {
            assert_eq!(judge(&mut programs, &syn)?, expected);
        }
        let inside = Tcp::with_flags(40_000, TCP_PORT, Tcp::ACK);
        let inside = inbound(pair, inside).bytes();
        assert_eq!(judge(&mut programs, &inside)?, Reason::Accepted);
        let ssh = inbound(pair, Tcp::syn(40_000, 22)).bytes();
        assert_eq!(judge(&mut programs, &ssh)?, Reason::NotOurs);
    }
    Ok(())
}
