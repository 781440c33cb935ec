//! steer: what is left to the host because the host serves it.

use std::net::{IpAddr, TcpListener};

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::host::Host;
use ingress_tests::packet::{Tcp, Udp};
use ingress_tests::programs::connection::{Connection, at};
use ingress_tests::programs::{NODE_V4, NODE_V6, Programs, TCP_PORT, UDP_PORT};
use ingress_tests::rig::wait_until;

use crate::{PAIRS, inbound, passed, redirected};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn everything_is_passed_before_user_space_has_spoken() -> Result<()> {
    let mut programs = Programs::load()?;
    for pair in PAIRS {
        let packet = inbound(pair, Tcp::syn(40_000, TCP_PORT));
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::NotReady, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_new_connection_without_a_listener_is_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let syn = inbound(pair, Tcp::syn(40_000, TCP_PORT));
        assert_eq!(
            programs.steer(&syn.bytes())?,
            passed(Reason::NoListener, &syn)
        );
        let datagram = inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 10));
        assert_eq!(
            programs.steer(&datagram.bytes())?,
            passed(Reason::NoListener, &datagram)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn new_connections_are_passed_once_the_listener_is_closed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    let syn = inbound(PAIRS[0], Tcp::syn(40_000, TCP_PORT));
    assert_eq!(
        programs.steer(&syn.bytes())?,
        redirected(Reason::Frontend, &syn)
    );
    programs.maps.close_listeners();
    assert_eq!(
        programs.steer(&syn.bytes())?,
        passed(Reason::NoListener, &syn)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packets_inside_a_connection_of_ours_are_steered_also_without_a_listener() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = Connection::accepted(&programs.ingress, at(node, TCP_PORT))?;
        for flags in [Tcp::ACK, Tcp::ACK | Tcp::PSH, Tcp::FIN | Tcp::ACK, Tcp::RST] {
            let packet = connection.packet(flags);
            assert_eq!(
                programs.steer(&packet.bytes())?,
                redirected(Reason::Frontend, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packets_inside_a_connection_of_ours_that_is_over_are_steered() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in NODES {
        let connection = Connection::accepted(&programs.ingress, at(node, TCP_PORT))?;
        let packet = connection.packet(Tcp::FIN | Tcp::ACK);
        connection.end();
        wait_for_the_end(&programs.ingress, node)?;
        assert_eq!(
            programs.steer(&packet.bytes())?,
            redirected(Reason::Frontend, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packets_inside_a_connection_that_nobody_has_are_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for pair in PAIRS {
        for flags in [Tcp::ACK, Tcp::SYN | Tcp::ACK, Tcp::RST] {
            let packet = inbound(pair, Tcp::with_flags(40_000, TCP_PORT, flags));
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::NoConnection, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_listener_in_the_ingress_netns_is_no_connection() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        let listen = || TcpListener::bind((pair.1, TCP_PORT));
        let _listener = programs.ingress.run(listen)??;
        // A masqueraded connection may have this port on the other side of the NAT.
        let packet = inbound(pair, Tcp::with_flags(40_000, TCP_PORT, Tcp::ACK));
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::NoConnection, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_that_a_host_listener_accepted_stays_with_the_host() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for node in NODES {
        let connection = Connection::accepted(&programs.host, at(node, TCP_PORT))?;
        programs.maps.set_host_connections(1)?;
        let packet = connection.packet(Tcp::ACK);
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::HostConnection, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_of_the_host_that_is_over_keeps_nothing_from_us() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_host_connections(1)?;
    for node in NODES {
        let over = Connection::accepted(&programs.host, at(node, TCP_PORT))?;
        let (local, remote) = (over.local, over.remote);
        over.end();
        wait_for_the_end(&programs.host, node)?;
        // Its client has begun another with the same port.
        let connection = Connection::accepted_from(&programs.ingress, local, remote)?;
        let packet = connection.packet(Tcp::ACK);
        assert_eq!(
            programs.steer(&packet.bytes())?,
            redirected(Reason::Frontend, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_of_ours_that_is_over_keeps_nothing_from_the_host() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.set_host_connections(1)?;
    for node in NODES {
        let over = Connection::accepted(&programs.ingress, at(node, TCP_PORT))?;
        let (local, remote) = (over.local, over.remote);
        over.end();
        wait_for_the_end(&programs.ingress, node)?;
        let connection = Connection::accepted_from(&programs.host, local, remote)?;
        let packet = connection.packet(Tcp::ACK);
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::HostConnection, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_host_is_not_asked_while_it_serves_nobody() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let connection = Connection::accepted(&programs.host, at(NODE_V4, TCP_PORT))?;
    programs.maps.set_host_connections(0)?;
    let packet = connection.packet(Tcp::ACK);
    assert_eq!(
        programs.steer(&packet.bytes())?,
        passed(Reason::NoConnection, &packet)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_host_is_asked_once_it_was_left_a_connection() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let connection = Connection::accepted(&programs.host, at(NODE_V6, TCP_PORT))?;
    let syn = connection.packet(Tcp::SYN);
    assert_eq!(
        programs.steer(&syn.bytes())?,
        passed(Reason::NoListener, &syn)
    );
    let packet = connection.packet(Tcp::ACK);
    assert_eq!(
        programs.steer(&packet.bytes())?,
        passed(Reason::HostConnection, &packet)
    );
    Ok(())
}

/// Waits until the end of a connection that closed first is the one that waits.
fn wait_for_the_end(host: &Host, node: IpAddr) -> Result<()> {
    wait_until("a connection to be over", || {
        let waiting = host.sh("ss -tanH state time-wait")?;
        Ok(waiting.contains(&node.to_string()))
    })
}

const NODES: [IpAddr; 2] = [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)];
