//! steer: what it remembers of connections, and when it asks for their sockets anew.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use ingress_common::steering::REPLIES;
use ingress_common::verdict::Reason;
use ingress_ebpf::plain::segment;
use ingress_tests::packet::{Packet, Tcp};
use ingress_tests::programs::connection::{Connection, at, packet};
use ingress_tests::programs::{HASH_KEY, NODE_V4, NODE_V6, Programs, TCP_PORT, UPSTREAM_PORT_MIN};

use crate::{PAIRS, inbound, passed, redirected};

/// A node that remembers a connection whose socket is gone: its packets tell what steer goes by.
fn remembered(programs: &mut Programs, node: IpAddr) -> Result<Ends> {
    let connection = Connection::accepted(&programs.ingress, at(node, TCP_PORT))?;
    let first = connection.packet(Tcp::ACK);
    let outcome = programs.steer(&first.bytes())?;
    assert_eq!(outcome, redirected(Reason::Frontend, &first));
    let Connection { local, remote, .. } = connection;
    connection.reset()?;
    Ok(Ends { local, remote })
}

struct Ends {
    local: SocketAddr,
    remote: SocketAddr,
}

impl Ends {
    fn packet(&self, flags: u8) -> Packet {
        packet(self.remote, self.local, flags)
    }
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_is_remembered_until_its_lifetime_is_over() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = remembered(&mut programs, node)?;
        let next = connection.packet(Tcp::ACK);
        let outcome = programs.steer(&next.bytes())?;
        assert_eq!(outcome, redirected(Reason::Frontend, &next));
        programs.maps.end_lifetimes()?;
        let outcome = programs.steer(&next.bytes())?;
        assert_eq!(outcome, passed(Reason::NoConnection, &next));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_change_of_the_node_ends_what_is_remembered() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = remembered(&mut programs, node)?;
        programs.maps.advance_epoch()?;
        let next = connection.packet(Tcp::ACK);
        let outcome = programs.steer(&next.bytes())?;
        assert_eq!(outcome, passed(Reason::NoConnection, &next));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_syn_is_judged_and_ends_what_is_remembered_of_its_addresses_and_ports() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        for flags in [Tcp::SYN, Tcp::SYN | Tcp::ACK] {
            let connection = remembered(&mut programs, node)?;
            let syn = connection.packet(flags);
            let outcome = programs.steer(&syn.bytes())?;
            let reason = if flags == Tcp::SYN {
                Reason::NoListener
            } else {
                Reason::NoConnection
            };
            assert_eq!(outcome, passed(reason, &syn));
            let next = connection.packet(Tcp::ACK);
            let outcome = programs.steer(&next.bytes())?;
            assert_eq!(outcome, passed(Reason::NoConnection, &next));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packets_go_where_their_syn_went() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for pair in PAIRS {
        let syn = inbound(pair, Tcp::syn(40_000, TCP_PORT));
        let outcome = programs.steer(&syn.bytes())?;
        assert_eq!(outcome, redirected(Reason::Frontend, &syn));
        // The listener of this test is elsewhere, so no socket tells.
        let next = inbound(pair, Tcp::with_flags(40_000, TCP_PORT, Tcp::ACK));
        let outcome = programs.steer(&next.bytes())?;
        assert_eq!(outcome, redirected(Reason::Frontend, &next));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_syn_takes_no_living_connections_place() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    let connection = remembered(&mut programs, NODES[0])?;
    programs.maps.prolong_lifetimes()?;
    let next = connection.packet(Tcp::ACK);
    let slot = |packet: &Packet| segment(&packet.bytes()[..]).map(|segment| segment.slot(HASH_KEY));
    let syns = (1024..u16::MAX).map(|port| inbound(PAIRS[0], Tcp::syn(port, TCP_PORT)));
    let mut meeting = syns.filter(|syn| slot(syn) == slot(&next));
    let syn = meeting.next().context("no port meets it in its slot")?;
    let outcome = programs.steer(&syn.bytes())?;
    assert_eq!(outcome, redirected(Reason::Frontend, &syn));
    let outcome = programs.steer(&next.bytes())?;
    assert_eq!(outcome, redirected(Reason::Frontend, &next));
    programs.maps.end_lifetimes()?;
    programs.steer(&syn.bytes())?;
    let outcome = programs.steer(&next.bytes())?;
    assert_eq!(outcome, passed(Reason::NoConnection, &next));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_is_remembered_with_its_ports_and_its_device() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = remembered(&mut programs, node)?;
        let mut other = connection.remote;
        other.set_port(other.port() ^ 1);
        let of_another = packet(other, connection.local, Tcp::ACK);
        let outcome = programs.steer(&of_another.bytes())?;
        assert_eq!(outcome, passed(Reason::NoConnection, &of_another));
        // A pod that pretends to be the client.
        let uplink = programs.uplink;
        programs.maps.set_taken(programs.gate, REPLIES)?;
        programs.uplink = programs.gate;
        let next = connection.packet(Tcp::ACK);
        let outcome = programs.steer(&next.bytes())?;
        assert_eq!(outcome, passed(Reason::PodClient, &next));
        programs.uplink = uplink;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn an_upstream_connection_is_remembered_as_one() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = Connection::dialled(&programs.ingress, at(node, UPSTREAM_PORT_MIN))?;
        for _ in 0..3 {
            let reply = connection.packet(Tcp::ACK);
            let outcome = programs.steer(&reply.bytes())?;
            assert_eq!(outcome, redirected(Reason::Upstream, &reply));
        }
    }
    Ok(())
}

const NODES: [IpAddr; 2] = [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)];
