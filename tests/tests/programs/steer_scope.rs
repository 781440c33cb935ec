//! steer: what is taken from which device.

use anyhow::Result;
use ingress_common::steering::REPLIES;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{IcmpError, Tcp, Udp};
use ingress_tests::programs::connection::{Connection, at};
use ingress_tests::programs::{Programs, TCP_PORT, UDP_PORT, UPSTREAM_PORT_MIN};

use crate::{PAIRS, inbound, passed, redirected};

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
