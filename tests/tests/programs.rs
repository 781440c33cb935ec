//! Each program in the kernel, one packet at a time: packet in, verdict, packet out, counter.
//!
//! `ingress_tests::programs` says what a test run can't show.

mod programs {
    mod cost;
    mod dispatch;
    mod guard;
    mod next_hops;
    mod return_path;
    mod steer;
    mod steer_fragments;
    mod steer_host;
    mod steer_icmp;
    mod steer_scope;
    mod steered;
    mod wire;
}

use std::net::IpAddr;

use ingress_common::verdict::Reason;
use ingress_tests::packet::{Packet, Transport};
use ingress_tests::programs::{
    CLIENT_V4, CLIENT_V6, NODE_V4, NODE_V6, Outcome, TC_ACT_REDIRECT, TC_ACT_UNSPEC,
};

/// A pair of addresses, client first.
type Pair = (IpAddr, IpAddr);

/// The client and the node, in both versions.
const PAIRS: [Pair; 2] = [
    (IpAddr::V4(CLIENT_V4), IpAddr::V4(NODE_V4)),
    (IpAddr::V6(CLIENT_V6), IpAddr::V6(NODE_V6)),
];

/// A packet from the client to the node.
fn inbound((client, node): Pair, transport: impl Into<Transport>) -> Packet {
    Packet::new(client, node, transport)
}

/// A packet from the node to the client.
fn outbound((client, node): Pair, transport: impl Into<Transport>) -> Packet {
    Packet::new(node, client, transport)
}

/// Left to the next program and the host stack, and not a byte of it changed.
fn passed(reason: Reason, packet: &Packet) -> Outcome {
    Outcome {
        action: TC_ACT_UNSPEC,
        reason,
        packet: packet.bytes(),
    }
}

/// Redirected as `packet`.
fn redirected(reason: Reason, packet: &Packet) -> Outcome {
    Outcome {
        action: TC_ACT_REDIRECT,
        reason,
        packet: packet.bytes(),
    }
}
