//! return_path: what it forwards, and what it leaves to the host stack.

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{Extension, IcmpError, Packet, Tcp, Udp};
use ingress_tests::programs::{
    CLIENT_V4, CLIENT_V6, NODE_V4, NODE_V6, NOWHERE_V4, NOWHERE_V6, OTHER_V4, OTHER_V6, Programs,
    TCP_PORT,
};

use crate::{PAIRS, inbound, outbound, passed, redirected};

/// An answer of so many bytes.
fn answer(bytes: usize) -> Tcp {
    Tcp {
        payload: vec![1; bytes],
        ..Tcp::with_flags(TCP_PORT, 40_000, Tcp::ACK)
    }
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_answer_goes_to_its_next_hop_one_hop_older() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        // Each time to live gives the checksum another carry.
        for ttl in 2..=255 {
            let packet = outbound(pair, answer(10)).ttl(ttl);
            let older = packet.clone().ttl(ttl - 1);
            let outcome = programs.return_path(&packet.bytes())?;
            assert_eq!(outcome, redirected(Reason::Forwarded, &older), "ttl {ttl}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn any_protocol_is_forwarded() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let error = IcmpError::too_big(&inbound(pair, Tcp::syn(40_000, TCP_PORT)));
        for packet in [
            outbound(pair, Udp::of_bytes(443, 40_000, 10)),
            outbound(pair, error),
            outbound(pair, answer(0)).option_words(if pair.0.is_ipv4() { 3 } else { 0 }),
        ] {
            let older = packet.clone().ttl(63);
            let outcome = programs.return_path(&packet.bytes())?;
            assert_eq!(outcome, redirected(Reason::Forwarded, &older));
        }
    }
    let packet = outbound(PAIRS[1], answer(0)).extension(Extension::DestinationOptions);
    let older = packet.clone().ttl(63);
    assert_eq!(
        programs.return_path(&packet.bytes())?,
        redirected(Reason::Forwarded, &older)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn nothing_is_forwarded_before_user_space_has_spoken() -> Result<()> {
    let mut programs = Programs::load()?;
    let packet = outbound(PAIRS[0], answer(10));
    assert_eq!(
        programs.return_path(&packet.bytes())?,
        passed(Reason::NotReady, &packet)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packet_for_an_unsteered_device_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for packet in [
        Packet::new(NODE_V4, OTHER_V4, answer(10)),
        Packet::new(NODE_V6, OTHER_V6, answer(10)),
    ] {
        let expected = passed(Reason::UnsteeredDevice, &packet);
        assert_eq!(programs.return_path(&packet.bytes())?, expected);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packet_without_a_route_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for packet in [
        Packet::new(NODE_V4, NOWHERE_V4, answer(10)),
        Packet::new(NODE_V6, NOWHERE_V6, answer(10)),
        // The node itself: delivered, not forwarded.
        Packet::new(CLIENT_V4, NODE_V4, answer(10)),
        Packet::new(CLIENT_V6, NODE_V6, answer(10)),
    ] {
        assert_eq!(
            programs.return_path(&packet.bytes())?,
            passed(Reason::NoRoute, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_whose_time_is_over_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        for ttl in [0, 1] {
            let packet = outbound(pair, answer(10)).ttl(ttl);
            assert_eq!(
                programs.return_path(&packet.bytes())?,
                passed(Reason::TtlExpired, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_larger_than_the_next_device_carries_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    larger_than_the_device_is_passed(&mut programs)?;
    for next_hop in ["192.0.2.254", "2001:db8::fe"] {
        programs.host.ip(&format!(
            "neigh add {next_hop} lladdr 02:00:00:00:00:03 dev uplink"
        ))?;
    }
    larger_than_the_device_is_passed(&mut programs)
}

fn larger_than_the_device_is_passed(programs: &mut Programs) -> Result<()> {
    for pair in PAIRS {
        let header_bytes = if pair.0.is_ipv4() { 20 } else { 40 };
        let largest = outbound(pair, answer(1500 - header_bytes - 20));
        let older = largest.clone().ttl(63);
        assert_eq!(
            programs.return_path(&largest.bytes())?,
            redirected(Reason::Forwarded, &older)
        );
        let packet = outbound(pair, answer(1500 - header_bytes - 19));
        assert_eq!(
            programs.return_path(&packet.bytes())?,
            passed(Reason::TooBig, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn frames_other_than_ip_are_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let mut arp = outbound(PAIRS[0], answer(0)).bytes();
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    let outcome = programs.return_path(&arp)?;
    assert_eq!((outcome.reason, outcome.packet), (Reason::NotIp, arp));
    Ok(())
}
