//! The maps of the loaded programs, written as user space would.

use std::net::{IpAddr, Ipv6Addr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use anyhow::Result;
use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, PerCpuArray, PerCpuValues, SockMap};
use ingress_common::cache::{NextHop, SteeredConnection};
use ingress_common::guard::GuardSettings;
use ingress_common::socket::{HOST_CONNECTIONS, Port, listener_index};
use ingress_common::steering::{
    Address, CLIENTS_AND_REPLIES, FragmentedDatagram, Frontend, Settings, Vlan, mapped,
};
use ingress_common::verdict::{Program, Reason, counter_index};
use ingress_userspace::datapath::Object;
use rustix::net::sockopt::socket_cookie;

use super::{
    HASH_KEY, INGRESS_NETNS, NODE_V4, NODE_V6, TCP_GROUP, TCP_PORT, UDP_GROUP, UDP_PORT,
    UPSTREAM_PORT_MAX, UPSTREAM_PORT_MIN,
};

/// All maps that user space writes, and the counters.
pub struct Maps {
    settings: Array<MapData, Settings>,
    frontends: HashMap<MapData, Frontend, u32>,
    upstream_sources: HashMap<MapData, Address, u32>,
    steered_devices: HashMap<MapData, u32, u32>,
    ports: HashMap<MapData, Port, u32>,
    listeners: SockMap<MapData>,
    connections: Array<MapData, u64>,
    fragments: HashMap<MapData, FragmentedDatagram, u64>,
    vlans: HashMap<MapData, Vlan, u32>,
    sources: LpmTrie<MapData, Address, u32>,
    guard: Array<MapData, GuardSettings>,
    denied: LpmTrie<MapData, Address, u64>,
    epoch: Array<MapData, u32>,
    next_hops: PerCpuArray<MapData, NextHop>,
    steered_connections: PerCpuArray<MapData, SteeredConnection>,
    counters: PerCpuArray<MapData, u64>,
    /// What is in the socket map, to keep it open.
    tcp: Vec<TcpListener>,
    udp: Vec<UdpSocket>,
}

impl Maps {
    pub(super) fn take(object: &mut Object) -> Result<Self> {
        Ok(Self {
            settings: object.take_map("SETTINGS")?,
            frontends: object.take_map("FRONTENDS")?,
            upstream_sources: object.take_map("UPSTREAM_SOURCES")?,
            steered_devices: object.take_map("STEERED_DEVICES")?,
            ports: object.take_map("PORTS")?,
            listeners: object.take_map("LISTENERS")?,
            connections: object.take_map("CONNECTIONS")?,
            fragments: object.take_map("FRAGMENTS")?,
            vlans: object.take_map("VLANS")?,
            sources: object.take_map("SOURCES")?,
            guard: object.take_map("GUARD_SETTINGS")?,
            denied: object.take_map("DENIED")?,
            epoch: object.take_map("EPOCH")?,
            next_hops: object.take_map("NEXT_HOPS")?,
            steered_connections: object.take_map("STEERED_CONNECTIONS")?,
            counters: object.take_map("COUNTERS")?,
            tcp: Vec::new(),
            udp: Vec::new(),
        })
    }

    /// Everything but listeners and connections.
    pub(super) fn fill(&mut self, gate: u32, uplink: u32) -> Result<()> {
        self.set_workers(gate, 1)?;
        for address in [NODE_V4.into(), NODE_V6.into()] {
            self.frontends
                .insert(frontend(address, TCP_PORT, TCP), TCP_GROUP, 0)?;
            self.frontends
                .insert(frontend(address, UDP_PORT, UDP), UDP_GROUP, 0)?;
            self.upstream_sources.insert(bytes(address), 1, 0)?;
        }
        self.ports.insert(port(TCP_PORT, TCP), TCP_GROUP, 0)?;
        self.ports.insert(port(UDP_PORT, UDP), UDP_GROUP, 0)?;
        self.set_taken(uplink, CLIENTS_AND_REPLIES)
    }

    /// Denies a network of IPv6 (IPv4 is mapped), until a time of `CLOCK_MONOTONIC`; 0 is for ever.
    pub fn deny(&mut self, address: IpAddr, bits: u32, until_ns: u64) -> Result<()> {
        let key = Key::new(bits, bytes(address));
        Ok(self.denied.insert(&key, until_ns, 0)?)
    }

    /// Says what the guard drops besides malformed packets.
    pub fn set_guard(&mut self, settings: GuardSettings) -> Result<()> {
        Ok(self.guard.set(0, settings, 0)?)
    }

    /// Says what is taken from a device.
    pub fn set_taken(&mut self, device: u32, taken: u32) -> Result<()> {
        Ok(self.steered_devices.insert(device, taken, 0)?)
    }

    /// Makes first fragments that were steered so much older.
    pub fn age_fragments(&mut self, seconds: u64) -> Result<()> {
        let held: Vec<_> = self.fragments.iter().collect::<Result<_, _>>()?;
        for (datagram, since) in held {
            let since = since.saturating_sub(seconds * 1_000_000_000);
            self.fragments.insert(datagram, since, 0)?;
        }
        Ok(())
    }

    /// Advances the epoch, as user space does when the kernel reports a change.
    pub fn advance_epoch(&mut self) -> Result<()> {
        let epoch = self.epoch.get(&0, 0)?;
        Ok(self.epoch.set(0, epoch.wrapping_add(1), 0)?)
    }

    /// Ends the lifetime of all that programs remember of packets.
    pub fn end_lifetimes(&mut self) -> Result<()> {
        self.set_lifetimes(0)
    }

    /// Has what programs remember of packets count however slow this machine is.
    pub fn prolong_lifetimes(&mut self) -> Result<()> {
        self.set_lifetimes(u64::MAX)
    }

    fn set_lifetimes(&mut self, until: u64) -> Result<()> {
        change_all(&mut self.next_hops, |hop| NextHop { until, ..hop })?;
        change_all(&mut self.steered_connections, |connection| {
            SteeredConnection {
                until,
                ..connection
            }
        })
    }

    /// Lets nobody open connections but who is in these networks: a prefix of so many bits of an
    /// address, which is mapped if it is of IPv4.
    pub fn restrict_sources(&mut self, networks: &[(u32, IpAddr)]) -> Result<()> {
        for (bits, address) in networks {
            let key = Key::new(*bits, bytes(*address));
            self.sources.insert(&key, 1, 0)?;
        }
        let settings = self.settings.get(&0, 0)?;
        let settings = Settings {
            restricts_sources: 1,
            ..settings
        };
        Ok(self.settings.set(0, settings, 0)?)
    }

    /// Gives frames with a tag of a device to another device.
    pub fn set_vlan(&mut self, parent: u32, (ether_type, id): (u16, u16), to: u32) -> Result<()> {
        let vlan = Vlan {
            parent,
            ether_type,
            id,
        };
        Ok(self.vlans.insert(vlan, to, 0)?)
    }

    /// Steers a device no more.
    pub fn forget_device(&mut self, device: u32) -> Result<()> {
        Ok(self.steered_devices.remove(&device)?)
    }

    /// Says where to steer, and how many workers there are.
    pub fn set_workers(&mut self, gate: u32, workers: u32) -> Result<()> {
        let settings = Settings {
            gate_ifindex: gate,
            workers,
            upstream_port_min: UPSTREAM_PORT_MIN,
            upstream_port_max: UPSTREAM_PORT_MAX,
            ingress_netns: INGRESS_NETNS,
            hash_key: HASH_KEY,
            restricts_sources: 0,
        };
        Ok(self.settings.set(0, settings, 0)?)
    }

    /// Opens the TCP listener of a worker; gives its cookie. The socket is of the calling
    /// thread's namespace, which a test run does not ask about.
    pub fn listen_tcp(&mut self, worker: u32) -> Result<u64> {
        let socket = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let cookie = self.set_listener(TCP_GROUP, worker, &socket)?;
        self.tcp.push(socket);
        Ok(cookie)
    }

    /// Opens the UDP socket of a worker; gives its cookie.
    pub fn listen_udp(&mut self, worker: u32) -> Result<u64> {
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
        let cookie = self.set_listener(UDP_GROUP, worker, &socket)?;
        self.udp.push(socket);
        Ok(cookie)
    }

    /// Closes all listening sockets, as the end of a process does.
    pub fn close_listeners(&mut self) {
        self.tcp.clear();
        self.udp.clear();
    }

    /// Says how many connections a worker has.
    pub fn set_connections(&mut self, worker: u32, connections: u64) -> Result<()> {
        Ok(self.connections.set(worker, connections, 0)?)
    }

    /// Says how many connections the host listeners have.
    pub fn set_host_connections(&mut self, connections: u64) -> Result<()> {
        self.set_connections(HOST_CONNECTIONS, connections)
    }

    /// Packets of a program that ended for a reason.
    pub fn count(&self, program: Program, reason: Reason) -> Result<u64> {
        let cells = self.counters.get(&counter_index(program, reason), 0)?;
        Ok(cells.iter().sum())
    }

    /// Packets by program and reason, always in the same order.
    pub(super) fn counters(&self) -> Result<Vec<(Program, Reason, u64)>> {
        let mut counters = Vec::new();
        for program in Program::ALL {
            for reason in Reason::ALL {
                counters.push((program, *reason, self.count(program, *reason)?));
            }
        }
        Ok(counters)
    }

    fn set_listener(
        &mut self,
        group: u32,
        worker: u32,
        socket: &(impl AsRawFd + AsFd),
    ) -> Result<u64> {
        self.listeners
            .set(listener_index(group, worker), socket, 0)?;
        Ok(socket_cookie(socket)?)
    }
}

/// Changes all values of a map, those of each CPU.
fn change_all<V: Pod>(map: &mut PerCpuArray<MapData, V>, change: impl Fn(V) -> V) -> Result<()> {
    for index in 0..map.len() {
        let values = map.get(&index, 0)?;
        let changed: Vec<V> = values.iter().map(|value| change(*value)).collect();
        map.set(index, PerCpuValues::try_from(changed)?, 0)?;
    }
    Ok(())
}

fn frontend(address: IpAddr, port: u16, protocol: u8) -> Frontend {
    Frontend {
        address: bytes(address),
        port: port.to_be_bytes(),
        protocol,
        reserved: 0,
    }
}

fn port(port: u16, protocol: u8) -> Port {
    Port {
        port: port.to_be_bytes(),
        protocol,
        reserved: 0,
    }
}

fn bytes(address: IpAddr) -> Address {
    match address {
        IpAddr::V4(address) => mapped(address.octets()),
        IpAddr::V6(address) => address.octets(),
    }
}

const TCP: u8 = 6;
const UDP: u8 = 17;
