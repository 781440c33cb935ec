//! steer and `return_path` on real devices: what steer redirects arrives in the ingress netns, and
//! a buffer of several segments is judged by its segments.
//!
//! Here the kernel has put the outer VLAN tag into the metadata of the buffer, as it does for every
//! tagged frame; a test run can neither ask for that nor show whether a tag is left there.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use anyhow::{Context as _, Result};
use ingress_common::verdict::{Program, Reason};
use ingress_tests::packet::{Cut, Packet, Udp};
use ingress_tests::programs::{Programs, UDP_PORT, Wire, set_udp_segment};
use ingress_tests::rig::wait_until;

use crate::{PAIRS, Pair, inbound};

/// A wire to steer, and a socket in the ingress netns.
struct Stage {
    wire: Wire,
    socket: UdpSocket,
    _programs: Programs,
}

impl Stage {
    fn set(node: IpAddr) -> Result<Self> {
        let mut programs = Programs::load_and_fill()?;
        programs.maps.listen_udp(0)?;
        let uplink = programs.uplink;
        for tag in [0x8100, 0x88a8] {
            programs.maps.set_vlan(uplink, (tag, 7), 100)?;
        }
        programs.maps.set_vlan(100, (0x8100, 8), 101)?;
        let socket = programs
            .ingress
            .run(|| UdpSocket::bind((node, UDP_PORT)))??;
        socket.set_read_timeout(Some(PATIENCE))?;
        let wire = Wire::attach(&mut programs)?;
        Ok(Self {
            wire,
            socket,
            _programs: programs,
        })
    }

    /// Bytes of the datagram that arrives next, and who sent it.
    fn receive(&self) -> Result<(usize, IpAddr)> {
        let (bytes, source) = self
            .socket
            .recv_from(&mut [0; 4096])
            .context("no datagram arrived")?;
        Ok((bytes, source.ip()))
    }
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn a_steered_datagram_arrives_in_the_ingress_netns_with_any_tags() -> Result<()> {
    for pair in PAIRS {
        let stage = Stage::set(pair.1)?;
        let plain = || inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 100));
        let tagged = [
            plain(),
            plain().vlan(7),
            plain().service_vlan(7),
            plain().vlan(7).vlan(8),
            plain().service_vlan(7).vlan(8),
        ];
        for packet in tagged {
            stage.wire.send(&packet.bytes())?;
            let received = stage.receive().with_context(|| format!("{packet:?}"))?;
            assert_eq!(received, (100, pair.0));
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn fragments_of_a_steered_datagram_meet_in_the_ingress_netns() -> Result<()> {
    for pair in PAIRS {
        let stage = Stage::set(pair.1)?;
        for id in [1, 2] {
            let cut = |offset| {
                let datagram = inbound(pair, Udp::of_bytes(40_000, UDP_PORT, 2000));
                let packet = datagram.cut(Cut {
                    id,
                    offset,
                    bytes: 1000,
                });
                if id == 2 {
                    Packet::vlan(packet, 7)
                } else {
                    packet
                }
            };
            for offset in [0, 1000, 2000] {
                stage.wire.send(&cut(offset).bytes())?;
            }
            assert_eq!(stage.receive()?, (2000, pair.0));
        }
    }
    Ok(())
}

/// Sends 10 segments of so many bytes in one buffer from the ingress netns.
fn send_segments(programs: &Programs, (client, node): Pair, bytes: u16) -> Result<()> {
    let socket = programs.ingress.run(|| UdpSocket::bind((node, 0)))??;
    set_udp_segment(&socket, bytes)?;
    socket.send_to(&vec![0x55; usize::from(bytes) * 10], (client, 9))?;
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn segments_larger_than_the_next_device_carries_are_passed() -> Result<()> {
    let mut programs = Programs::load_and_fill()?;
    programs.attach_return_path()?;
    programs.host.ip("link set uplink mtu 1400")?;
    for (pair, sent) in PAIRS.into_iter().zip(1..) {
        let header_bytes = if pair.0.is_ipv4() { 28 } else { 48 };
        send_segments(&programs, pair, 1400 - header_bytes)?;
        send_segments(&programs, pair, 1401 - header_bytes)?;
        wait_until("both buffers to be counted", || {
            let count = |reason| programs.maps.count(Program::ReturnPath, reason);
            Ok((count(Reason::Forwarded)?, count(Reason::TooBig)?) == (sent, sent))
        })?;
    }
    Ok(())
}

const PATIENCE: Duration = Duration::from_secs(2);
