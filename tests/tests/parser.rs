//! The packet parser, off the kernel: every combination of headers that is looked behind, packets
//! that end anywhere or contradict themselves, and agreement with another parser.

mod parser {
    pub(crate) mod agreement;
    mod broken;
    mod headers;
    mod property;
}

use std::net::IpAddr;

use ingress_common::steering::{Address, mapped};
use ingress_common::verdict::Reason;
use ingress_ebpf::parse::{self, Network, Transport};
use ingress_tests::programs::{CLIENT_V4, CLIENT_V6, NODE_V4, NODE_V6};

/// A client and the node, in both versions.
const PAIRS: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(CLIENT_V4), IpAddr::V4(NODE_V4)),
    (IpAddr::V6(CLIENT_V6), IpAddr::V6(NODE_V6)),
];

/// All layers of a frame, as steer reads them.
fn read(frame: &[u8]) -> Result<(Network, Transport), Reason> {
    let network = parse::network(frame, parse::link(frame)?)?;
    Ok((network, parse::transport(frame, &network)?))
}

/// An address as it is in keys.
fn address(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}
