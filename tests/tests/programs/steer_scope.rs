//! steer: what is taken from which device, and whose connections.

use std::net::IpAddr;

use anyhow::Result;
use ingress_common::steering::REPLIES;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{IcmpError, Packet, Tcp, Udp};
use ingress_tests::programs::connection::{Connection, at};
use ingress_tests::programs::{
    Outcome, Programs, TC_ACT_SHOT, TCP_PORT, UDP_PORT, UPSTREAM_PORT_MIN,
};

use crate::{PAIRS, Pair, inbound, passed, redirected};

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_pod_is_taken_replies_from_and_nothing_else() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    programs.maps.listen_udp(0)?;
    programs.maps.set_taken(programs.uplink, REPLIES)?;
    for pair in PAIRS {
        let upstream = Connection::dialled(&programs.ingress, at(pair.1, UPSTREAM_PORT_MIN))?;
        let reply = upstream.packet(Tcp::ACK);
        assert_eq!(
            programs.steer(&reply.bytes())?,
            redirected(Reason::Upstream, &reply)
        );
        let error = inbound(pair, IcmpError::too_big(&upstream.sent(Tcp::ACK)));
        assert_eq!(
            programs.steer(&error.bytes())?,
            redirected(Reason::IcmpError, &error)
        );
        // As if its pod had made up the packet of somebody else's client.
        let accepted = Connection::accepted(&programs.ingress, at(pair.1, TCP_PORT))?;
        let datagram = inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 10));
        for packet in [
            inbound(pair, Tcp::syn(40_000, TCP_PORT)),
            accepted.packet(Tcp::RST),
            datagram,
        ] {
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::PodClient, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn nothing_is_taken_from_a_device_that_user_space_has_not_named() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    programs.maps.forget_device(programs.uplink)?;
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
fn new_connections_from_other_networks_are_dropped_whoever_listens() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    // Nothing that either client is in.
    let networks = [
        (96 + 8, IpAddr::from([10, 0, 0, 0])),
        (32, "2001:db9::".parse()?),
    ];
    programs.maps.restrict_sources(&networks)?;
    for is_listening in [false, true] {
        if is_listening {
            programs.maps.listen_tcp(0)?;
            programs.maps.listen_udp(0)?;
        }
        for pair in PAIRS {
            for packet in opening(pair) {
                let dropped = Outcome {
                    action: TC_ACT_SHOT,
                    reason: Reason::ForeignSource,
                    packet: packet.bytes(),
                };
                assert_eq!(programs.steer(&packet.bytes())?, dropped);
            }
            let ssh = inbound(pair, Tcp::syn(40_000, 22));
            assert_eq!(programs.steer(&ssh.bytes())?, passed(Reason::NotOurs, &ssh));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn new_connections_from_named_networks_are_steered() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    programs.maps.listen_udp(0)?;
    let networks = PAIRS.map(|(client, _)| match client {
        IpAddr::V4(_) => (96 + 24, client),
        IpAddr::V6(_) => (64, client),
    });
    programs.maps.restrict_sources(&networks)?;
    for pair in PAIRS {
        for packet in opening(pair) {
            assert_eq!(
                programs.steer(&packet.bytes())?,
                redirected(Reason::Frontend, &packet)
            );
        }
    }
    Ok(())
}

/// Packets of a client that open something.
fn opening(pair: Pair) -> [Packet; 2] {
    [
        inbound(pair, Tcp::syn(40_000, TCP_PORT)),
        inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 10)),
    ]
}
