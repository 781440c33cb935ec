//! steer: what is ours and what is not.

use std::net::IpAddr;

use anyhow::Result;
use ingress_common::verdict::Reason;
use ingress_tests::packet::{Extension, IcmpError, Packet, Tcp, Transport, Udp};
use ingress_tests::programs::connection::{Connection, at, packet};
use ingress_tests::programs::{
    NODE_V4, NODE_V6, OTHER_V4, OTHER_V6, Programs, TCP_PORT, UDP_PORT, UPSTREAM_PORT_MAX,
    UPSTREAM_PORT_MIN,
};

use crate::{PAIRS, inbound, outbound, passed, redirected};

/// Programs with a listener for each frontend.
fn listening() -> Result<Programs> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    programs.maps.listen_udp(0)?;
    Ok(programs)
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_new_connection_to_a_frontend_is_steered() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let packet = inbound(pair, Tcp::syn(40_000, TCP_PORT));
        assert_eq!(
            programs.steer(&packet.bytes())?,
            redirected(Reason::Frontend, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn options_and_extension_headers_are_looked_behind() -> Result<()> {
    let mut programs = listening()?;
    let v4 = inbound(PAIRS[0], Tcp::syn(40_000, TCP_PORT)).option_words(10);
    assert_eq!(
        programs.steer(&v4.bytes())?,
        redirected(Reason::Frontend, &v4)
    );
    let mut v6 = inbound(PAIRS[1], Tcp::syn(40_000, TCP_PORT));
    for extension in Extension::ALL {
        v6 = v6.extension(extension);
        assert_eq!(
            programs.steer(&v6.bytes())?,
            redirected(Reason::Frontend, &v6)
        );
    }
    // Six headers are as many as are looked behind.
    for extension in [Extension::Routing, Extension::DestinationOptions] {
        v6 = v6.extension(extension);
        let expected = redirected(Reason::Frontend, &v6);
        assert_eq!(programs.steer(&v6.bytes())?, expected);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn tags_of_a_steered_packet_are_taken_off() -> Result<()> {
    let mut programs = listening()?;
    let uplink = programs.uplink;
    programs.maps.set_vlan(uplink, (0x8100, 7), 100)?;
    programs.maps.set_vlan(uplink, (0x88a8, 8), 101)?;
    programs.maps.set_vlan(101, (0x8100, 9), 102)?;
    for pair in PAIRS {
        let plain = inbound(pair, Tcp::syn(40_000, TCP_PORT));
        let tagged = [plain.clone().vlan(7), plain.clone().service_vlan(8).vlan(9)];
        for packet in tagged {
            assert_eq!(
                programs.steer(&packet.bytes())?,
                redirected(Reason::Frontend, &plain)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_with_a_tag_that_the_host_has_no_device_for_is_passed() -> Result<()> {
    let mut programs = listening()?;
    let uplink = programs.uplink;
    programs.maps.set_vlan(uplink, (0x8100, 7), 100)?;
    for pair in PAIRS {
        let plain = || inbound(pair, Tcp::syn(40_000, TCP_PORT));
        for packet in [
            plain().vlan(8),
            plain().vlan(7).vlan(7),
            plain().service_vlan(7),
        ] {
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::ForeignVlan, &packet)
            );
        }
        // A tag without an identifier only says how urgent the frame is.
        let outcome = programs.steer(&plain().vlan(0).bytes())?;
        assert_eq!(outcome, redirected(Reason::Frontend, &plain()));
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn tags_of_a_passed_packet_are_left() -> Result<()> {
    let mut programs = listening()?;
    let uplink = programs.uplink;
    programs.maps.set_vlan(uplink, (0x8100, 7), 100)?;
    for pair in PAIRS {
        let packet = inbound(pair, Tcp::syn(40_000, 22)).vlan(7);
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::NotOurs, &packet)
        );
        let packet = inbound(pair, Tcp::syn(40_000, TCP_PORT))
            .vlan(7)
            .vlan(8)
            .vlan(9);
        assert_eq!(
            programs.steer(&packet.bytes())?,
            passed(Reason::TooDeep, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_datagram_to_a_frontend_is_steered() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let packet = inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 100));
        assert_eq!(
            programs.steer(&packet.bytes())?,
            redirected(Reason::Frontend, &packet)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn replies_are_steered_where_there_is_an_upstream_connection_for_them() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    for node in [IpAddr::V4(NODE_V4), IpAddr::V6(NODE_V6)] {
        for port in [UPSTREAM_PORT_MIN, UPSTREAM_PORT_MAX] {
            let connection = Connection::dialled(&programs.ingress, at(node, port))?;
            let reply = connection.packet(Tcp::ACK);
            assert_eq!(
                programs.steer(&reply.bytes())?,
                redirected(Reason::Upstream, &reply)
            );
            // The host's NAT has given the same port to a connection of its own.
            let other = at(node, connection.remote.port() ^ 1);
            let masqueraded = packet(other, connection.local, Tcp::ACK);
            assert_eq!(
                programs.steer(&masqueraded.bytes())?,
                passed(Reason::NotOurs, &masqueraded)
            );
        }
        for port in [UPSTREAM_PORT_MIN - 1, UPSTREAM_PORT_MAX + 1] {
            let connection = Connection::dialled(&programs.ingress, at(node, port))?;
            let reply = connection.packet(Tcp::ACK);
            assert_eq!(
                programs.steer(&reply.bytes())?,
                passed(Reason::NotOurs, &reply)
            );
        }
    }
    for pair in PAIRS {
        let datagram = inbound(pair, Udp::of_bytes(53, UPSTREAM_PORT_MIN, 100));
        assert_eq!(
            programs.steer(&datagram.bytes())?,
            passed(Reason::NotOurs, &datagram)
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn packet_for_another_address_is_passed() -> Result<()> {
    let mut programs = listening()?;
    for (client, node) in PAIRS {
        let other: IpAddr = if client.is_ipv4() {
            OTHER_V4.into()
        } else {
            OTHER_V6.into()
        };
        let transports: [Transport; 4] = [
            Tcp::syn(40_000, TCP_PORT).into(),
            Tcp::with_flags(8080, UPSTREAM_PORT_MIN, Tcp::ACK).into(),
            Udp::of_bytes(40_000, UDP_PORT, 10).into(),
            // The right port number of the wrong protocol.
            Udp::of_bytes(40_000, TCP_PORT, 10).into(),
        ];
        for transport in transports {
            let packet = Packet::new(client, other, transport);
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::NotOurs, &packet)
            );
        }
        let ssh = Packet::new(client, node, Tcp::syn(40_000, 22));
        assert_eq!(programs.steer(&ssh.bytes())?, passed(Reason::NotOurs, &ssh));
        let wrong_protocol = Packet::new(client, node, Udp::of_bytes(40_000, TCP_PORT, 10));
        let expected = passed(Reason::NotOurs, &wrong_protocol);
        assert_eq!(programs.steer(&wrong_protocol.bytes())?, expected);
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_for_another_host_of_the_link_is_passed() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        for mac in [[2, 0, 0, 0, 0, 9], [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
            let packet = inbound(pair, Tcp::syn(40_000, TCP_PORT)).to_mac(mac);
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::OtherHost, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn icmp_that_is_no_error_is_passed() -> Result<()> {
    let mut programs = listening()?;
    for (pair, echo, redirect) in [(PAIRS[0], 8, 5), (PAIRS[1], 128, 137)] {
        for kind in [echo, redirect] {
            let quoted = outbound(pair, Tcp::with_flags(TCP_PORT, 40_000, Tcp::ACK));
            let packet = inbound(
                pair,
                IcmpError {
                    kind,
                    ..IcmpError::too_big(&quoted)
                },
            );
            assert_eq!(
                programs.steer(&packet.bytes())?,
                passed(Reason::OtherProtocol, &packet)
            );
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn unparsable_packet_is_passed() -> Result<()> {
    let mut programs = listening()?;
    let syn = || Tcp::syn(40_000, TCP_PORT);
    let sctp = inbound(PAIRS[0], Transport::Other(132, vec![0; 12]));
    assert_eq!(
        programs.steer(&sctp.bytes())?,
        passed(Reason::OtherProtocol, &sctp)
    );
    let deep = (0..7).fold(inbound(PAIRS[1], syn()), |packet, _| {
        packet.extension(Extension::Routing)
    });
    assert_eq!(
        programs.steer(&deep.bytes())?,
        passed(Reason::TooDeep, &deep)
    );
    let mut arp = inbound(PAIRS[0], syn()).bytes();
    arp[12..14].copy_from_slice(&0x0806_u16.to_be_bytes());
    let outcome = programs.steer(&arp)?;
    assert_eq!((outcome.reason, outcome.packet), (Reason::NotIp, arp));
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_packet_cut_anywhere_is_passed() -> Result<()> {
    let mut programs = listening()?;
    for pair in PAIRS {
        let frame = inbound(pair, Tcp::syn(40_000, TCP_PORT)).bytes();
        let tcp = frame.len() - 20;
        // A test run takes no frame that ends before the IP header does.
        for end in tcp..tcp + 14 {
            let outcome = programs.steer(&frame[..end])?;
            assert_eq!(
                (outcome.reason, outcome.packet),
                (Reason::Unparsable, frame[..end].to_vec())
            );
        }
    }
    Ok(())
}
