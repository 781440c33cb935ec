//! return_path: what it remembers of next hops, and when it asks the kernel anew.
//!
//! A packet that goes by the kernel's lookup leaves the program with the Ethernet header that it came with:
//! the hook writes another one later. A packet whose next hop is remembered has it already.

use std::net::IpAddr;

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{Extension, NODE_MAC, Packet, Tcp, Udp};
use ingress_tests::programs::{Outcome, Programs, TC_ACT_REDIRECT, TCP_PORT};

use crate::{PAIRS, Pair, outbound, passed, redirected};

fn answer(bytes: usize) -> Tcp {
    Tcp {
        payload: vec![1; bytes],
        ..Tcp::with_flags(TCP_PORT, 40_000, Tcp::ACK)
    }
}

/// A node that knows the link-layer address of the next hop of [`PAIRS`].
fn node() -> Result<Programs> {
    let programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        set_neighbour(&programs, pair, ROUTER)?;
    }
    Ok(programs)
}

fn set_neighbour(programs: &Programs, pair: Pair, mac: [u8; 6]) -> Result<()> {
    let next_hop = match pair.0 {
        IpAddr::V4(_) => "192.0.2.254",
        IpAddr::V6(_) => "2001:db8::fe",
    };
    let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
    programs.host.ip(&format!(
        "neigh replace {next_hop} lladdr {mac} dev uplink nud reachable"
    ))
}

/// Sent by what is remembered, to this neighbour.
fn sent(packet: &Packet, mac: [u8; 6]) -> Outcome {
    let mut bytes = packet.bytes();
    bytes[..6].copy_from_slice(&mac);
    bytes[6..12].copy_from_slice(&NODE_MAC);
    Outcome {
        action: TC_ACT_REDIRECT,
        reason: Reason::Forwarded,
        packet: bytes,
    }
}

/// Sent by the kernel's lookup.
fn looked_up(packet: &Packet) -> Outcome {
    redirected(Reason::Forwarded, packet)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_second_packet_goes_to_the_next_hop_of_the_first() -> Result<()> {
    let mut programs = node()?;
    for pair in PAIRS {
        let first = outbound(pair, answer(10));
        let older = first.clone().ttl(63);
        let outcome = programs.return_path(&first.bytes())?;
        assert_eq!(outcome, looked_up(&older));
        programs.maps.prolong_lifetimes()?;
        // Each time to live gives the checksum another carry.
        for ttl in 2..=255 {
            let packet = outbound(pair, answer(10)).ttl(ttl);
            let older = packet.clone().ttl(ttl - 1);
            let outcome = programs.return_path(&packet.bytes())?;
            assert_eq!(outcome, sent(&older, ROUTER), "ttl {ttl}");
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_neighbour_that_moves_is_followed_as_soon_as_user_space_says_so() -> Result<()> {
    let mut programs = node()?;
    for pair in PAIRS {
        let packet = outbound(pair, answer(10));
        let older = packet.clone().ttl(63);
        programs.return_path(&packet.bytes())?;
        set_neighbour(&programs, pair, OTHER_ROUTER)?;
        let outcome = programs.return_path(&packet.bytes())?;
        assert_eq!(outcome, sent(&older, ROUTER), "nobody has said anything");
        programs.maps.advance_epoch()?;
        assert_eq!(programs.return_path(&packet.bytes())?, looked_up(&older));
        let outcome = programs.return_path(&packet.bytes())?;
        assert_eq!(outcome, sent(&older, OTHER_ROUTER));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_next_hop_is_looked_up_again_when_its_lifetime_is_over() -> Result<()> {
    let mut programs = node()?;
    for pair in PAIRS {
        let packet = outbound(pair, answer(10));
        let older = packet.clone().ttl(63);
        programs.return_path(&packet.bytes())?;
        let outcome = programs.return_path(&packet.bytes())?;
        assert_eq!(outcome, sent(&older, ROUTER));
        programs.maps.end_lifetimes()?;
        assert_eq!(programs.return_path(&packet.bytes())?, looked_up(&older));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_next_hop_is_that_of_both_addresses_and_the_protocol() -> Result<()> {
    let mut programs = node()?;
    for (pair, other) in PAIRS.into_iter().zip(["192.0.2.2", "2001:db8::2"]) {
        let packet = outbound(pair, answer(10));
        programs.return_path(&packet.bytes())?;
        for packet in [
            Packet::new(other.parse::<IpAddr>()?, pair.0, answer(10)),
            outbound(pair, Udp::of_bytes(443, 40_000, 10)),
        ] {
            let older = packet.clone().ttl(63);
            assert_eq!(programs.return_path(&packet.bytes())?, looked_up(&older));
            let outcome = programs.return_path(&packet.bytes())?;
            assert_eq!(outcome, sent(&older, ROUTER));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn options_and_tags_go_by_the_kernels_lookup_or_as_they_are() -> Result<()> {
    let mut programs = node()?;
    for pair in PAIRS {
        programs.return_path(&outbound(pair, answer(10)).bytes())?;
        let tagged = outbound(pair, answer(10)).vlan(7);
        let older = tagged.clone().ttl(63);
        assert_eq!(programs.return_path(&tagged.bytes())?, looked_up(&older));
    }
    // A router does not look at them.
    let options = outbound(PAIRS[0], answer(10)).option_words(3);
    let older = options.clone().ttl(63);
    assert_eq!(
        programs.return_path(&options.bytes())?,
        sent(&older, ROUTER)
    );
    let extension = outbound(PAIRS[1], answer(10)).extension(Extension::DestinationOptions);
    let older = extension.clone().ttl(63);
    for _ in 0..2 {
        let outcome = programs.return_path(&extension.bytes())?;
        assert_eq!(outcome, looked_up(&older));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn unforwarded_packets_pass_although_the_next_hop_is_known() -> Result<()> {
    let mut programs = node()?;
    for pair in PAIRS {
        let header_bytes = if pair.0.is_ipv4() { 20 } else { 40 };
        programs.return_path(&outbound(pair, answer(10)).bytes())?;
        let largest = outbound(pair, answer(1500 - header_bytes - 20));
        let older = largest.clone().ttl(63);
        let outcome = programs.return_path(&largest.bytes())?;
        assert_eq!(outcome, sent(&older, ROUTER));
        let larger = outbound(pair, answer(1500 - header_bytes - 19));
        let outcome = programs.return_path(&larger.bytes())?;
        assert_eq!(outcome, passed(Reason::TooBig, &larger));
        for ttl in [0, 1] {
            let old = outbound(pair, answer(10)).ttl(ttl);
            let outcome = programs.return_path(&old.bytes())?;
            assert_eq!(outcome, passed(Reason::TtlExpired, &old));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_neighbour_that_is_not_known_is_never_remembered() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let packet = outbound(pair, answer(10));
        let older = packet.clone().ttl(63);
        for _ in 0..3 {
            assert_eq!(programs.return_path(&packet.bytes())?, looked_up(&older));
        }
    }
    Ok(())
}

const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 3];
const OTHER_ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 4];
