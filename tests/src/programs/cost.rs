//! What a packet costs in each program, by repeated test runs.
//!
//! Without the hook, the driver and the memory that a real packet brings into the cache: figures
//! to compare with each other, not with a wire.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use ingress_common::verdict::Program;

use super::{
    CLIENT_V4, CLIENT_V6, Input, Lookup, NODE_V4, NODE_V6, Programs, TCP_PORT, UPSTREAM_PORT_MIN,
};
use crate::packet::{Extension, Packet, Tcp};

/// Nanoseconds for each packet, by program and case: the mean of `repeat` runs.
pub fn nanoseconds_per_packet(repeat: u32) -> Result<Vec<(String, u64)>> {
    let mut programs = Programs::load_and_fill()?;
    programs.maps.listen_tcp(0)?;
    for next_hop in ["192.0.2.254", "2001:db8::fe"] {
        programs.host.ip(&format!(
            "neigh add {next_hop} lladdr 02:00:00:00:00:03 dev uplink"
        ))?;
    }
    let mut costs = Vec::new();
    for (program, case, packet) in packets() {
        let frame = packet.bytes();
        let cost = mean(&mut programs, program, Input::Frame(&frame), repeat)?;
        costs.push((format!("{}: {case}", program.name()), cost));
    }
    for (case, address) in [("IPv4", CLIENT_V4.into()), ("IPv6", CLIENT_V6.into())] {
        let lookup = Lookup::tcp(SocketAddr::new(address, CLIENT_PORT));
        let cost = mean(
            &mut programs,
            Program::Dispatch,
            Input::Lookup(lookup),
            repeat,
        )?;
        costs.push((format!("{}: {case}", Program::Dispatch.name()), cost));
    }
    Ok(costs)
}

/// The kernel gives every repetition the same buffer, and `return_path` counts the time to live
/// down in it: no more repetitions at once than there is time.
fn mean(programs: &mut Programs, program: Program, input: Input<'_>, repeat: u32) -> Result<u64> {
    let at_once = match program {
        Program::ReturnPath => TTL_MAX - 1,
        Program::Guard | Program::Steer | Program::Dispatch | Program::Shortcut => repeat.max(1),
    };
    let runs = repeat.max(1).div_ceil(at_once);
    let mut nanoseconds = 0;
    for _ in 0..runs {
        nanoseconds += programs.run(program, input, at_once)?.nanoseconds;
    }
    Ok(nanoseconds / u64::from(runs))
}

/// A sample for each way through the programs that traffic takes. What a program has seen before counts:
/// the SYNs are of the connections whose packets follow.
fn packets() -> Vec<(Program, &'static str, Packet)> {
    let syn = || Tcp::syn(CLIENT_PORT, TCP_PORT);
    let ack = || Tcp::with_flags(CLIENT_PORT, TCP_PORT, Tcp::ACK);
    let stray = || Tcp::with_flags(CLIENT_PORT + 1, TCP_PORT, Tcp::ACK);
    let answer = || Tcp::with_flags(TCP_PORT, CLIENT_PORT, Tcp::ACK);
    let v4 = |tcp: Tcp| Packet::new(CLIENT_V4, NODE_V4, tcp);
    let v6 = |tcp: Tcp| Packet::new(CLIENT_V6, NODE_V6, tcp);
    let null = Tcp::with_flags(CLIENT_PORT, TCP_PORT, 0);
    let upstream = Tcp::with_flags(8080, UPSTREAM_PORT_MIN, Tcp::ACK);
    let ssh = Tcp::with_flags(CLIENT_PORT, 22, Tcp::ACK);
    vec![
        (Program::Guard, "TCP, IPv4", v4(ack())),
        (Program::Guard, "TCP, IPv6", v6(ack())),
        (Program::Guard, "malformed TCP, dropped", v4(null)),
        (Program::Steer, "opening a connection, IPv4", v4(syn())),
        (Program::Steer, "opening a connection, IPv6", v6(syn())),
        (Program::Steer, "in a connection, IPv4", v4(ack())),
        (Program::Steer, "in a connection, IPv6", v6(ack())),
        (Program::Steer, "in no connection, IPv4", v4(stray())),
        (Program::Steer, "in no connection, IPv6", v6(stray())),
        (
            Program::Steer,
            "in no connection, IPv6 with two extension headers",
            v6(stray())
                .extension(Extension::HopByHop)
                .extension(Extension::DestinationOptions),
        ),
        (
            Program::Steer,
            "in the upstream port range, IPv4",
            v4(upstream),
        ),
        (Program::Steer, "not ours, IPv4", v4(ssh)),
        (
            Program::ReturnPath,
            "forwarded, IPv4",
            Packet::new(NODE_V4, CLIENT_V4, answer()).ttl(TTL_BYTE_MAX),
        ),
        (
            Program::ReturnPath,
            "forwarded, IPv6",
            Packet::new(NODE_V6, CLIENT_V6, answer()).ttl(TTL_BYTE_MAX),
        ),
        (
            Program::ReturnPath,
            "forwarded to an unknown neighbour, IPv4",
            Packet::new(NODE_V4, STRANGER_V4, answer()).ttl(TTL_BYTE_MAX),
        ),
        (
            Program::ReturnPath,
            "forwarded to an unknown neighbour, IPv6",
            Packet::new(NODE_V6, STRANGER_V6, answer()).ttl(TTL_BYTE_MAX),
        ),
    ]
}

/// Addresses on the uplink that nobody has.
const STRANGER_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 77);
const STRANGER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x77);
const CLIENT_PORT: u16 = 40_000;
const TTL_BYTE_MAX: u8 = u8::MAX;
const TTL_MAX: u32 = TTL_BYTE_MAX as u32;
