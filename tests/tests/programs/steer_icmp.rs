//! steer: ICMP errors go to the stack that has the connection which they quote.

use std::net::IpAddr;

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{IcmpError, Packet, Tcp, Transport, Udp};
use ingress_tests::programs::connection::{Connection, at};
use ingress_tests::programs::{
    NODE_V4, NODE_V6, Outcome, Programs, TCP_PORT, UDP_PORT, UPSTREAM_PORT_MIN,
};

use crate::{PAIRS, inbound, outbound, passed, redirected};

const NODES: [IpAddr; 2] = [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)];

/// An error from a router about a packet of the node, and no more of it than has to be quoted.
fn errors(quoted: &Packet, node: IpAddr) -> [Packet; 2] {
    let error = IcmpError::too_big(quoted);
    let pair = PAIRS.into_iter().find(|pair| pair.1 == node);
    let pair = pair.expect("a node has clients");
    [error.clone(), error.shortest()].map(|error| inbound(pair, error))
}

fn expect(
    programs: &mut Programs,
    (quoted, node): (&Packet, IpAddr),
    expected: impl Fn(&Packet) -> Outcome,
) -> Result<()> {
    for packet in errors(quoted, node) {
        assert_eq!(programs.steer(&packet.bytes())?, expected(&packet));
    }
    Ok(())
}

fn ours(packet: &Packet) -> Outcome {
    redirected(Reason::IcmpError, packet)
}

fn others(packet: &Packet) -> Outcome {
    passed(Reason::NotOurs, packet)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_error_follows_a_connection_of_ours_that_it_quotes() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let accepted = Connection::accepted(&programs.ingress, at(node, TCP_PORT))?;
        let dialled = Connection::dialled(&programs.ingress, at(node, UPSTREAM_PORT_MIN))?;
        for connection in [accepted, dialled] {
            let quoted = connection.sent(Tcp::ACK);
            expect(&mut programs, (&quoted, node), ours)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_error_about_a_connection_of_the_host_is_passed_whatever_its_port() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for node in NODES {
        // As if masqueraded to one of our ports, and as accepted by a listener of the host.
        let masqueraded = Connection::dialled(&programs.host, at(node, UPSTREAM_PORT_MIN))?;
        let accepted = Connection::accepted(&programs.host, at(node, TCP_PORT))?;
        for connection in [masqueraded, accepted] {
            let quoted = connection.sent(Tcp::ACK);
            expect(&mut programs, (&quoted, node), others)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_error_about_what_nobody_has_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for pair in PAIRS {
        let transports: [Transport; 5] = [
            Tcp::with_flags(TCP_PORT, 40_000, Tcp::ACK).into(),
            Tcp::syn(UPSTREAM_PORT_MIN, 8080).into(),
            Tcp::with_flags(22, 40_000, Tcp::ACK).into(),
            // The client's port, not ours.
            Tcp::syn(40_000, TCP_PORT).into(),
            Udp::of_bytes(UDP_PORT, 40_000, 100).into(),
        ];
        for transport in transports {
            expect(&mut programs, (&outbound(pair, transport), pair.1), others)?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_error_about_datagrams_follows_the_socket_that_they_come_from() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_udp(0)?;
    for pair in PAIRS {
        let quoted = outbound(pair, Udp::of_bytes(UDP_PORT, 40_000, 100));
        expect(&mut programs, (&quoted, pair.1), ours)?;
    }
    Ok(())
}
