//! steer: what is left to the host because the host serves it.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{Packet, Tcp, Udp};
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
fn packets_inside_a_connection_are_steered_also_without_a_listener() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for pair in PAIRS {
        for flags in [Tcp::ACK, Tcp::ACK | Tcp::PSH, Tcp::FIN | Tcp::ACK, Tcp::RST] {
            let packet = inbound(pair, Tcp::with_flags(40_000, TCP_PORT, flags));
            assert_eq!(
                programs.steer(&packet.bytes())?,
                redirected(Reason::Frontend, &packet)
            );
        }
    }
    Ok(())
}

/// A connection that a host listener accepted, with its client's address and port.
struct HostConnection {
    client: SocketAddr,
    _ends: (TcpListener, TcpStream, TcpStream),
}

impl HostConnection {
    /// The client is on the node itself: for the lookup that makes no difference.
    fn accept(address: IpAddr) -> Result<Self> {
        let listener = TcpListener::bind((address, TCP_PORT))?;
        let client = TcpStream::connect((address, TCP_PORT))?;
        let (accepted, peer) = listener.accept()?;
        Ok(Self {
            client: peer,
            _ends: (listener, client, accepted),
        })
    }

    fn packet(&self, node: IpAddr, flags: u8) -> Packet {
        Packet::new(
            self.client.ip(),
            node,
            Tcp::with_flags(self.client.port(), TCP_PORT, flags),
        )
    }
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_that_a_host_listener_accepted_stays_with_the_host() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for node in [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)] {
        let connection = programs.host.run(|| HostConnection::accept(node))??;
        let packet = connection.packet(node, Tcp::ACK);
        programs.maps.set_host_connections(1)?;
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::HostConnection, &packet)
        );
        // The host's listener alone is no connection.
        let stranger = Packet::new(
            connection.client.ip(),
            node,
            Tcp::with_flags(connection.client.port() ^ 1, TCP_PORT, Tcp::ACK),
        );
        assert_eq!(
            programs.steer(&stranger.bytes())?,
            redirected(Reason::Frontend, &stranger)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_connection_of_the_host_that_is_over_keeps_nothing_from_us() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    programs.maps.set_host_connections(1)?;
    for node in [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)] {
        let connection = programs.host.run(|| HostConnection::accept(node))??;
        let packet = connection.packet(node, Tcp::ACK);
        let HostConnection {
            _ends: (_listener, client, accepted),
            ..
        } = connection;
        // The end that closes first is the one that waits.
        drop(accepted);
        drop(client);
        wait_until("the host's end to wait", || {
            let waiting = programs.host.sh("ss -tanH state time-wait")?;
            Ok(waiting.contains(&node.to_string()))
        })?;
        assert_eq!(
            programs.steer(&packet.bytes())?,
            redirected(Reason::Frontend, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_host_is_not_asked_while_it_serves_nobody() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    let node = IpAddr::V4(NODE_V4);
    let connection = programs.host.run(|| HostConnection::accept(node))??;
    let packet = connection.packet(node, Tcp::ACK);
    programs.maps.set_host_connections(0)?;
    assert_eq!(
        programs.steer(&packet.bytes())?,
        redirected(Reason::Frontend, &packet)
    );
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn the_host_is_asked_once_it_was_left_a_connection() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    let node = IpAddr::V6(NODE_V6);
    let connection = programs.host.run(|| HostConnection::accept(node))??;
    let syn = connection.packet(node, Tcp::SYN);
    assert_eq!(
        programs.steer(&syn.bytes())?,
        passed(Reason::NoListener, &syn)
    );
    let packet = connection.packet(node, Tcp::ACK);
    assert_eq!(
        programs.steer(&packet.bytes())?,
        passed(Reason::HostConnection, &packet)
    );
    Ok(())
}
