//! What must be so for any bytes at all: our parser and `etherparse` do not contradict each other.
//!
//! The property tests and the fuzz target both end here, so the latter includes this file.

use etherparse::{
    Ipv6ExtensionsSlice, LaxNetSlice, LaxSlicedPacket, LinkExtSlice, NetSlice, SlicedPacket,
    TransportSlice,
};
use ingress_common::steering::{Address, mapped};
use ingress_common::verdict::Reason;
use ingress_ebpf::parse::{self, Fragment, Network, Transport};

/// Panics where the parsers contradict each other.
pub(crate) fn check(frame: &[u8]) {
    let network = parse::link(frame).and_then(|link| parse::network(frame, link));
    if let Ok(network) = &network {
        compare_what_both_say(frame, network);
    }
    if let Ok(theirs) = SlicedPacket::from_ethernet(frame)
        && has_only_tags_of_ours(frame, &theirs)
    {
        find_all_that_they_find(frame, network, &theirs);
    }
}

/// Theirs here goes as far as it gets, ours takes no notice of lengths in headers.
fn compare_what_both_say(frame: &[u8], network: &Network) {
    let Ok(theirs) = LaxSlicedPacket::from_ethernet(frame) else {
        return;
    };
    let addresses = match &theirs.net {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            (mapped(header.source()), mapped(header.destination()))
        }
        Some(LaxNetSlice::Ipv6(ip)) => (ip.header().source(), ip.header().destination()),
        Some(LaxNetSlice::Arp(_)) => panic!("ours says IP, theirs says ARP"),
        None => return,
    };
    assert_eq!((network.source, network.destination), addresses);
    if let (Ok(ours), Some(theirs)) = (parse::transport(frame, network), &theirs.transport) {
        compare_transport(&ours, theirs);
    }
}

/// Theirs here is strict: what it finds, ours must find too.
fn find_all_that_they_find(
    frame: &[u8],
    network: Result<Network, Reason>,
    theirs: &SlicedPacket<'_>,
) {
    let (protocol, payload) = match &theirs.net {
        _ if theirs.link_exts.len() > 2 => return assert_eq!(network, Err(Reason::TooDeep)),
        // Ours looks behind authentication headers in IPv6 only.
        Some(NetSlice::Ipv4(ip)) if ip.extensions().auth.is_some() => {
            return assert_eq!(network.map(|network| network.protocol), Ok(51));
        }
        Some(NetSlice::Ipv4(ip)) => (
            ip.header().protocol(),
            &frame[payload_offset(frame, ip.header().slice())..],
        ),
        Some(NetSlice::Ipv6(ip)) if network == Err(Reason::TooDeep) => {
            return assert!(
                count(ip.extensions()) > 6,
                "theirs found fewer extension headers"
            );
        }
        Some(NetSlice::Ipv6(ip)) => (ip.payload().ip_number, ip.payload().payload),
        Some(NetSlice::Arp(_)) | None => return assert!(network.is_err(), "theirs found no IP"),
    };
    let network = network.expect("theirs understood it");
    if network.fragment == Fragment::Later {
        return;
    }
    assert_eq!(network.protocol, protocol.0);
    let offset = payload.as_ptr() as usize - frame.as_ptr() as usize;
    assert_eq!(network.payload, offset, "payload");
    let transport = parse::transport(frame, &network);
    if let Some(theirs @ (TransportSlice::Tcp(_) | TransportSlice::Udp(_))) = &theirs.transport {
        compare_transport(&transport.expect("theirs understood it"), theirs);
    }
}

fn compare_transport(ours: &Transport, theirs: &TransportSlice<'_>) {
    match (*ours, theirs) {
        (
            Transport::Tcp {
                source,
                destination,
                flags,
            },
            TransportSlice::Tcp(tcp),
        ) => {
            assert_eq!(u16::from_be_bytes(source), tcp.source_port());
            assert_eq!(u16::from_be_bytes(destination), tcp.destination_port());
            assert_eq!(flags, tcp.slice()[13]);
        }
        (
            Transport::Udp {
                source,
                destination,
            },
            TransportSlice::Udp(udp),
        ) => {
            assert_eq!(u16::from_be_bytes(source), udp.source_port());
            assert_eq!(u16::from_be_bytes(destination), udp.destination_port());
        }
        (Transport::IcmpError { local, remote, .. }, TransportSlice::Icmpv4(icmp)) => {
            compare_quoted((local.address, remote.address), &icmp.slice()[8..], 4);
        }
        (Transport::IcmpError { local, remote, .. }, TransportSlice::Icmpv6(icmp)) => {
            compare_quoted((local.address, remote.address), &icmp.slice()[8..], 6);
        }
        (ours, theirs) => panic!("ours says {ours:?}, theirs says {theirs:?}"),
    }
}

fn compare_quoted(ours: (Address, Address), quoted: &[u8], version: u8) {
    // Lengths in their headers may end the quote before ours does.
    let Some(first) = quoted.first() else { return };
    assert_eq!(first >> 4, version);
    match LaxSlicedPacket::from_ip(quoted)
        .ok()
        .and_then(|packet| packet.net)
    {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let theirs = (mapped(header.source()), mapped(header.destination()));
            assert_eq!(ours, theirs);
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            assert_eq!(ours, (header.source(), header.destination()));
        }
        Some(LaxNetSlice::Arp(_)) | None => {}
    }
}

fn payload_offset(frame: &[u8], header: &[u8]) -> usize {
    header.as_ptr() as usize - frame.as_ptr() as usize + header.len()
}

fn count(extensions: &Ipv6ExtensionsSlice<'_>) -> usize {
    extensions.clone().into_iter().count()
}

/// Theirs also knows `MACsec`, and a type of tags that no standard has.
fn has_only_tags_of_ours(frame: &[u8], theirs: &SlicedPacket<'_>) -> bool {
    let mut types = frame[12..].chunks(4).map(|chunk| &chunk[..2]);
    theirs.link_exts.iter().all(|extension| match extension {
        LinkExtSlice::Vlan(_) => types.next() != Some(&[0x91, 0x00]),
        LinkExtSlice::Macsec(_) => false,
    })
}
