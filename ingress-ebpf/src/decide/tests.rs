//! Which packets belong to the ingress and where they go.

mod frames;

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use ingress_common::steering::{Address, FragmentedDatagram, Frontend, Settings, Vlan, mapped};
use ingress_common::verdict::Reason;

use super::Scope::{ClientsAndReplies as CLIENTS_AND_REPLIES, Replies as REPLIES};
use super::screen::Lists;
use super::{
    Connection, FRAGMENT_AGE_MAX, Frontends, Socket, Stack, Tables, datagram, is_taken, steer,
};
use crate::parse::{End, Fragment, Identity, Network, Tag, Transport, Version, protocol};

/// A node at one address, with one TCP and one UDP frontend of group 3.
#[derive(Default)]
struct Node {
    /// Ages of first fragments.
    steered: HashMap<FragmentedDatagram, u64>,
    vlans: HashMap<Vlan, u32>,
    sockets: HashMap<(Stack, Connection), Socket>,
    cookies: HashSet<Connection>,
    is_listening: bool,
    is_client_foreign: bool,
    host_may_have_connections: bool,
    denied: Option<Address>,
    /// What is left of the client's budget, if there is one.
    connections: Cell<Option<u32>>,
}

impl Frontends for Node {
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        let Frontend {
            address,
            port,
            protocol,
            reserved,
        } = *frontend;
        assert_eq!(reserved, 0);
        let is_ours =
            (port, protocol) == (HTTPS, protocol::TCP) || (port, protocol) == (DNS, protocol::UDP);
        (address == NODE && is_ours).then_some(3)
    }
}

impl Lists for Node {
    fn is_denied(&self, source: &Address) -> bool {
        self.denied == Some(*source)
    }

    fn takes_connection(&self, source: &Address) -> bool {
        assert_eq!(*source, CLIENT);
        let Some(left) = self.connections.get() else {
            return true;
        };
        self.connections.set(Some(left.saturating_sub(1)));
        left > 0
    }
}

impl Tables for Node {
    fn is_upstream_source(&self, address: &Address) -> bool {
        *address == NODE
    }

    fn first_fragment_age(&self, datagram: &FragmentedDatagram) -> Option<u64> {
        self.steered.get(datagram).copied()
    }

    fn vlan_device(&self, vlan: &Vlan) -> Option<u32> {
        self.vlans.get(vlan).copied()
    }

    fn may_connect(&self, source: &Address) -> bool {
        assert_eq!(*source, CLIENT);
        !self.is_client_foreign
    }

    fn is_listening(&self, group: u32) -> bool {
        assert_eq!(group, 3);
        self.is_listening
    }

    fn host_may_have_connections(&self) -> bool {
        self.host_may_have_connections
    }

    fn socket(&self, stack: Stack, connection: &Connection) -> Option<Socket> {
        self.sockets.get(&(stack, *connection)).copied()
    }

    fn brings_cookie(&self, _: &Network, connection: &Connection) -> bool {
        self.cookies.contains(connection)
    }
}

impl Node {
    fn listening() -> Self {
        Self {
            is_listening: true,
            ..Self::default()
        }
    }

    /// What the stacks have for the client's connection to a port.
    fn with(mut self, port: [u8; 2], host: Option<Socket>, ingress: Option<Socket>) -> Self {
        for (stack, socket) in [(Stack::Host, host), (Stack::Ingress, ingress)] {
            let sockets = socket.map(|socket| ((stack, connection(port)), socket));
            self.sockets.extend(sockets);
        }
        self
    }
}

/// The client's connection to a port of the node.
fn connection(port: [u8; 2]) -> Connection {
    Connection {
        remote: End {
            address: CLIENT,
            port: CLIENT_PORT,
        },
        local: End {
            address: NODE,
            port,
        },
    }
}

fn network(protocol: u8, fragment: Fragment) -> Network {
    Network {
        version: Version::V4,
        offset: 14,
        payload: 34,
        protocol,
        fragment,
        identity: identity(protocol),
        source: CLIENT,
        destination: NODE,
    }
}

fn tcp(destination: [u8; 2], flags: u8) -> Transport {
    Transport::Tcp {
        source: CLIENT_PORT,
        destination,
        flags,
    }
}

fn decide(node: &Node, network: &Network, transport: Transport) -> Reason {
    steer(network, &transport, CLIENTS_AND_REPLIES, &SETTINGS, node)
}

#[test]
fn only_a_syn_without_ack_opens_a_connection() {
    let network = network(protocol::TCP, Fragment::Whole);
    for flags in 0..=u8::MAX {
        let opens = flags & 0x12 == 0x02;
        let reason = decide(&Node::listening(), &network, tcp(HTTPS, flags));
        let expected = if opens {
            Reason::Frontend
        } else {
            Reason::NoConnection
        };
        assert_eq!(reason, expected, "flags {flags:#x}");
        let reason = decide(&Node::default(), &network, tcp(HTTPS, flags));
        let expected = if opens {
            Reason::NoListener
        } else {
            Reason::NoConnection
        };
        assert_eq!(reason, expected, "flags {flags:#x}");
    }
}

#[test]
fn forbidden_source_opens_no_connection_and_keeps_open_ones() {
    let open = Some(Socket::Open);
    for is_listening in [true, false] {
        let node = Node {
            is_listening,
            is_client_foreign: true,
            host_may_have_connections: true,
            ..Node::default()
        };
        let segment = network(protocol::TCP, Fragment::Whole);
        let reason = decide(&node, &segment, tcp(HTTPS, 0x02));
        // Neither is it left to the listeners of the host.
        assert_eq!(reason, Reason::ForeignSource);
        assert_eq!(decide(&node, &segment, tcp([0, 22], 0x02)), Reason::NotOurs);
        let datagram = Transport::Udp {
            source: CLIENT_PORT,
            destination: DNS,
        };
        let network = network(protocol::UDP, Fragment::Whole);
        assert_eq!(decide(&node, &network, datagram), Reason::ForeignSource);
        let node = node.with(HTTPS, None, open);
        assert_eq!(decide(&node, &segment, tcp(HTTPS, 0x10)), Reason::Frontend);
    }
}

#[test]
fn a_connection_stays_with_the_stack_that_accepted_it() {
    use Socket::{Listening, Open, TimeWait};
    let network = network(protocol::TCP, Fragment::Whole);
    let all = [None, Some(Listening), Some(TimeWait), Some(Open)];
    for host in all {
        for ingress in all {
            let expected = match (host, ingress) {
                (_, Some(Open)) => Reason::Frontend,
                (Some(Open), _) => Reason::HostConnection,
                (_, Some(TimeWait)) => Reason::Frontend,
                (_, Some(Listening) | None) => Reason::NoConnection,
            };
            for is_listening in [true, false] {
                let node = Node {
                    is_listening,
                    host_may_have_connections: true,
                    ..Node::default()
                };
                let node = node.with(HTTPS, host, ingress);
                let reason = decide(&node, &network, tcp(HTTPS, 0x10));
                assert_eq!(reason, expected, "host {host:?}, ingress {ingress:?}");
            }
        }
    }
}

#[test]
fn the_host_is_not_asked_while_it_serves_nobody() {
    let node = Node::listening().with(HTTPS, Some(Socket::Open), None);
    let network = network(protocol::TCP, Fragment::Whole);
    assert_eq!(
        decide(&node, &network, tcp(HTTPS, 0x10)),
        Reason::NoConnection
    );
}

#[test]
fn a_cookie_that_comes_back_is_a_connection_of_the_listener() {
    let network = network(protocol::TCP, Fragment::Whole);
    let mut node = Node::listening().with(HTTPS, None, Some(Socket::Listening));
    node.cookies.insert(connection(HTTPS));
    assert_eq!(decide(&node, &network, tcp(HTTPS, 0x10)), Reason::Frontend);
}

#[test]
fn upstream_connections_are_known_by_their_port_range_and_their_socket() {
    let network = network(protocol::TCP, Fragment::Whole);
    for (port, is_in_range) in [
        (19_999, false),
        (20_000, true),
        (29_999, true),
        (30_000, false),
    ] {
        let port = u16::to_be_bytes(port);
        for (socket, is_connection) in [
            (None, false),
            (Some(Socket::Listening), false),
            (Some(Socket::TimeWait), true),
            (Some(Socket::Open), true),
        ] {
            let node = Node::default().with(port, Some(Socket::Open), socket);
            let expected = if is_in_range && is_connection {
                Reason::Upstream
            } else {
                Reason::NotOurs
            };
            let reason = decide(&node, &network, tcp(port, 0x10));
            assert_eq!(reason, expected, "port {port:?}, {socket:?}");
        }
    }
    let elsewhere = Network {
        destination: CLIENT,
        ..network
    };
    let transport = tcp(u16::to_be_bytes(20_000), 0x10);
    assert_eq!(
        decide(&Node::default(), &elsewhere, transport),
        Reason::NotOurs
    );
}

#[test]
fn a_datagram_is_of_a_frontend_of_its_own_protocol_only() {
    let network = network(protocol::UDP, Fragment::Whole);
    for (port, expected) in [
        (DNS, Reason::Frontend),
        (HTTPS, Reason::NotOurs),
        (u16::to_be_bytes(20_000), Reason::NotOurs),
    ] {
        let transport = Transport::Udp {
            source: CLIENT_PORT,
            destination: port,
        };
        assert_eq!(decide(&Node::listening(), &network, transport), expected);
    }
}

/// An error about a packet that the node has sent from a port to the client.
fn error(protocol: u8, port: [u8; 2]) -> Transport {
    let Connection { remote, local } = connection(port);
    Transport::IcmpError {
        protocol,
        local,
        remote,
    }
}

#[test]
fn an_icmp_error_goes_where_its_quoted_connection_lives() {
    let network = network(protocol::ICMP, Fragment::Whole);
    let upstream = u16::to_be_bytes(20_000);
    for port in [HTTPS, upstream] {
        for (socket, expected) in [
            (None, Reason::NotOurs),
            (Some(Socket::Listening), Reason::NotOurs),
            (Some(Socket::TimeWait), Reason::IcmpError),
            (Some(Socket::Open), Reason::IcmpError),
        ] {
            let node = Node::listening().with(port, Some(Socket::Open), socket);
            let reason = decide(&node, &network, error(protocol::TCP, port));
            assert_eq!(reason, expected, "port {port:?}, {socket:?}");
        }
    }
    // A connection that the ingress netns has by chance, from a port that is not ours.
    let node = Node::listening().with([0, 22], None, Some(Socket::Open));
    let reason = decide(&node, &network, error(protocol::TCP, [0, 22]));
    assert_eq!(reason, Reason::NotOurs);
}

#[test]
fn only_replies_are_taken_where_only_they_are_asked_for() {
    let upstream = u16::to_be_bytes(20_000);
    let node = Node {
        host_may_have_connections: true,
        ..Node::listening()
    };
    let open = Some(Socket::Open);
    let node = node.with(HTTPS, None, open).with(upstream, None, open);
    let take = |protocol, transport| {
        let network = network(protocol, Fragment::Whole);
        steer(&network, &transport, REPLIES, &SETTINGS, &node)
    };
    // Not even inside of a connection: its client is somebody else, or it would not be ours.
    for flags in 0..=u8::MAX {
        let reason = take(protocol::TCP, tcp(HTTPS, flags));
        assert_eq!(reason, Reason::PodClient, "flags {flags:#x}");
    }
    let datagram = Transport::Udp {
        source: CLIENT_PORT,
        destination: DNS,
    };
    assert_eq!(take(protocol::UDP, datagram), Reason::PodClient);
    assert_eq!(take(protocol::TCP, tcp(upstream, 0x10)), Reason::Upstream);
    for (port, expected) in [(HTTPS, Reason::NotOurs), (upstream, Reason::IcmpError)] {
        let reason = take(protocol::ICMP, error(protocol::TCP, port));
        assert_eq!(reason, expected);
    }
}

#[test]
fn an_icmp_error_about_datagrams_goes_to_the_socket_that_they_are_sent_from() {
    let network = network(protocol::ICMP, Fragment::Whole);
    for (node, port, expected) in [
        (Node::listening(), DNS, Reason::IcmpError),
        (Node::default(), DNS, Reason::NotOurs),
        (Node::listening(), HTTPS, Reason::NotOurs),
        (Node::listening(), u16::to_be_bytes(20_000), Reason::NotOurs),
    ] {
        let reason = decide(&node, &network, error(protocol::UDP, port));
        assert_eq!(reason, expected, "{port:?}");
    }
}

#[test]
fn a_later_fragment_follows_a_first_one_for_half_a_minute() {
    let first = network(protocol::UDP, Fragment::First);
    let later = network(protocol::UDP, Fragment::Later);
    let mut node = Node::default();
    let decide = |node: &Node| decide(node, &later, Transport::None);
    assert_eq!(decide(&node), Reason::UnknownFragment);
    let first = datagram(&first).unwrap();
    for (age, expected) in [
        (0, Reason::Fragment),
        (FRAGMENT_AGE_MAX - 1, Reason::Fragment),
        (FRAGMENT_AGE_MAX, Reason::UnknownFragment),
        (u64::MAX, Reason::UnknownFragment),
    ] {
        node.steered.insert(first, age);
        assert_eq!(decide(&node), expected, "after {age} ns");
    }
}

fn identity(protocol: u8) -> Identity {
    Identity {
        id: [0, 0, 1, 2],
        protocol,
    }
}

#[test]
fn datagrams_differ_by_what_their_fragments_say_they_carry() {
    let key = |version, of_fragments| {
        datagram(&Network {
            version,
            identity: identity(of_fragments),
            // What is found behind further headers, which later fragments do not have.
            ..network(protocol::UDP, Fragment::Later)
        })
    };
    for version in [Version::V4, Version::V6] {
        assert_ne!(key(version, protocol::TCP), key(version, protocol::UDP));
        assert_eq!(key(version, 60), key(version, 60));
    }
    assert_eq!(datagram(&network(protocol::UDP, Fragment::Whole)), None);
}

#[test]
fn a_tagged_frame_is_taken_where_there_is_a_device_for_each_tag() {
    let vlan = |parent, ether_type, id| Vlan {
        parent,
        ether_type,
        id,
    };
    let node = Node {
        vlans: HashMap::from([(vlan(2, 0x8100, 7), 5), (vlan(5, 0x8100, 8), 6)]),
        ..Node::default()
    };
    let tag = |id| Tag::new(0x8100, id);
    let bare = Tag::NONE;
    for (tags, expected) in [
        ([bare, bare, bare], true),
        ([tag(7), bare, bare], true),
        // Where the kernel has left it in the packet.
        ([bare, tag(7), bare], true),
        ([tag(7), tag(8), bare], true),
        // The bits above those of the identifier, and a tag that has no identifier.
        ([tag(0xe007), bare, bare], true),
        ([tag(0xe000), tag(7), bare], true),
        ([tag(8), bare, bare], false),
        ([tag(7), tag(7), bare], false),
        ([tag(7), tag(8), tag(9)], false),
        ([Tag::new(0x88a8, 7), bare, bare], false),
    ] {
        assert_eq!(is_taken(2, tags, &node), expected, "{tags:?}");
    }
    assert!(!is_taken(3, [tag(7), bare, bare], &node), "another device");
}

const SETTINGS: Settings = Settings {
    gate_ifindex: 1,
    workers: 1,
    upstream_port_min: 20_000,
    upstream_port_max: 29_999,
    ingress_netns: 0,
    hash_key: [0; 2],
    restricts_sources: 0,
};
const NODE: Address = mapped([192, 0, 2, 1]);
const CLIENT: Address = mapped([198, 51, 100, 7]);
const HTTPS: [u8; 2] = [0x01, 0xbb];
const DNS: [u8; 2] = [0, 53];
const CLIENT_PORT: [u8; 2] = [0x9c, 0x40];
