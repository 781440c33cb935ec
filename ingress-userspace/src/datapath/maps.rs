//! The kernel maps, by their meaning.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use aya::Pod;
use aya::maps::lpm_trie::Key;
use aya::maps::{Array, HashMap, LpmTrie, MapData, MapError, PerCpuArray, SockMap};
use ingress_common::socket::{
    CONNECTION_CELLS, HOST_CONNECTIONS, LEFT_TO_HOST, Port, WORKERS_MAX, listener_index,
};
use ingress_common::steering::{Address, Frontend, Settings, Vlan};
use ingress_common::verdict::{Program, Reason, counter_index};
use ingress_core::plan::{Operation, Plan, diff};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::object::{Object, ObjectError};
use super::sources::Prefixes;

/// A map that can't be read or written.
#[derive(Debug, Error)]
#[error("failed to write map `{name}`")]
pub struct MapFault {
    name: &'static str,
    source: MapError,
}

impl MapFault {
    /// A fault of a map of this name.
    pub(super) fn of(name: &'static str) -> impl FnOnce(MapError) -> Self {
        move |source| Self { name, source }
    }
}

/// All maps that user space writes, and the counters.
pub(super) struct Maps {
    settings: Array<MapData, Settings>,
    frontends: HashMap<MapData, Frontend, u32>,
    upstream_sources: HashMap<MapData, Address, u32>,
    steered_devices: HashMap<MapData, u32, u32>,
    vlans: HashMap<MapData, Vlan, u32>,
    sources: LpmTrie<MapData, Address, u32>,
    ports: HashMap<MapData, Port, u32>,
    listeners: SockMap<MapData>,
    counters: PerCpuArray<MapData, u64>,
    /// What the maps hold, so that a change costs what it changes.
    plan: Plan,
}

/// Packets of one program that ended for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Program name.
    pub program: Cow<'static, str>,
    /// Reason label.
    pub reason: Cow<'static, str>,
    /// Packets since the maps were made.
    pub packets: u64,
}

impl Maps {
    /// Takes the maps out of the object and reads what an earlier daemon left in them.
    pub(super) fn take(object: &mut Object) -> Result<Self, ObjectError> {
        let mut maps = Self {
            settings: object.take_map("SETTINGS")?,
            frontends: object.take_map("FRONTENDS")?,
            upstream_sources: object.take_map("UPSTREAM_SOURCES")?,
            steered_devices: object.take_map("STEERED_DEVICES")?,
            vlans: object.take_map("VLANS")?,
            sources: object.take_map("SOURCES")?,
            ports: object.take_map("PORTS")?,
            listeners: object.take_map("LISTENERS")?,
            counters: object.take_map("COUNTERS")?,
            plan: Plan::default(),
        };
        maps.plan = Plan {
            ports: maps.ports.iter().filter_map(Result::ok).collect(),
            upstream_sources: maps
                .upstream_sources
                .keys()
                .filter_map(Result::ok)
                .collect(),
            frontends: maps.frontends.iter().filter_map(Result::ok).collect(),
        };
        Ok(maps)
    }

    /// Tells the programs about this node.
    pub(super) fn set_settings(&mut self, settings: Settings) -> Result<(), MapFault> {
        self.settings.set(0, settings, 0).map_err(fault("SETTINGS"))
    }

    /// Makes the steering maps what `plan` says, in safe order.
    pub(super) fn apply(&mut self, plan: &Plan) -> Result<(), MapFault> {
        for operation in diff(&self.plan, plan) {
            self.carry_out(operation)?;
            self.plan.apply(operation);
        }
        Ok(())
    }

    /// Makes the steered devices (ifindex), and what is taken from each, what `devices` says.
    pub(super) fn set_steered_devices(
        &mut self,
        devices: &BTreeMap<u32, u32>,
    ) -> Result<(), MapFault> {
        make(&mut self.steered_devices, devices).map_err(fault("STEERED_DEVICES"))
    }

    /// Makes the VLANs of steered devices what `vlans` says.
    pub(super) fn set_vlans(&mut self, vlans: &BTreeMap<Vlan, u32>) -> Result<(), MapFault> {
        make(&mut self.vlans, vlans).map_err(fault("VLANS"))
    }

    /// Adds networks whose clients may, or may not, open connections.
    pub(super) fn add_sources(&mut self, sources: &Prefixes) -> Result<(), MapFault> {
        for ((bits, address), value) in sources {
            let key = Key::new(*bits, *address);
            let added = self.sources.insert(&key, value, 0);
            added.map_err(fault("SOURCES"))?;
        }
        Ok(())
    }

    /// Removes all networks but these: what an earlier daemon has left.
    pub(super) fn remove_other_sources(&mut self, sources: &Prefixes) -> Result<(), MapFault> {
        let held = self.sources.keys().filter_map(Result::ok);
        let held: Vec<_> = held.map(|key| (key.prefix_len(), key.data())).collect();
        for (bits, address) in held {
            if !sources.contains_key(&(bits, address)) {
                let removed = self.sources.remove(&Key::new(bits, address));
                removed.map_err(fault("SOURCES"))?;
            }
        }
        Ok(())
    }

    /// Gives the connections of a listener group to a worker's listening socket.
    pub(super) fn set_listener(
        &mut self,
        group: u32,
        worker: u32,
        socket: &impl std::os::fd::AsRawFd,
    ) -> Result<(), MapFault> {
        let index = listener_index(group, worker);
        self.listeners
            .set(index, socket, 0)
            .map_err(fault("LISTENERS"))
    }

    /// Sends no more new connections of a listener group to any worker.
    pub(super) fn clear_group(&mut self, group: u32) {
        for worker in 0..WORKERS_MAX {
            // An empty slot is what is wanted.
            let _ = self.listeners.clear_index(&listener_index(group, worker));
        }
    }

    /// Sends no more new connections to any worker; steer leaves them to the host from now on.
    pub(super) fn clear_listeners(&mut self) {
        let indices: Vec<u32> = self.listeners.indices().filter_map(Result::ok).collect();
        for index in indices {
            // An empty slot is what is wanted.
            let _ = self.listeners.clear_index(&index);
        }
    }

    /// Packets by program and reason, without the zeros.
    pub(super) fn counts(&self) -> Vec<Count> {
        let mut counts = Vec::new();
        for program in Program::ALL {
            for reason in Reason::ALL {
                let packets = self.count(program, &[*reason]);
                if packets > 0 {
                    let program = program.name();
                    counts.push(Count {
                        program: program.into(),
                        reason: reason.label().into(),
                        packets,
                    });
                }
            }
        }
        counts
    }

    /// Packets of a program that ended for one of these reasons.
    pub(super) fn count(&self, program: Program, reasons: &[Reason]) -> u64 {
        let cells = reasons.iter().filter_map(|reason| {
            let cells = self.counters.get(&counter_index(program, *reason), 0);
            Some(cells.ok()?.iter().sum::<u64>())
        });
        cells.sum()
    }

    fn carry_out(&mut self, operation: Operation) -> Result<(), MapFault> {
        match operation {
            Operation::SetPort(port, group) => {
                self.ports.insert(port, group, 0).map_err(fault("PORTS"))
            }
            Operation::RemovePort(port) => self.ports.remove(&port).map_err(fault("PORTS")),
            Operation::AddUpstreamSource(address) => self
                .upstream_sources
                .insert(address, 1, 0)
                .map_err(fault("UPSTREAM_SOURCES")),
            Operation::RemoveUpstreamSource(address) => self
                .upstream_sources
                .remove(&address)
                .map_err(fault("UPSTREAM_SOURCES")),
            Operation::SetFrontend(frontend, group) => self
                .frontends
                .insert(frontend, group, 0)
                .map_err(fault("FRONTENDS")),
            Operation::RemoveFrontend(frontend) => {
                self.frontends.remove(&frontend).map_err(fault("FRONTENDS"))
            }
        }
    }
}

/// The `CONNECTIONS` map in this process's memory: counting a connection costs no system call.
#[derive(Debug)]
pub struct Connections {
    cells: NonNull<AtomicU64>,
    map: OwnedFd,
}

// SAFETY: the memory is shared with the kernel anyway; all access goes through atomics, and the
// mapping stays until the last owner drops it.
unsafe impl Send for Connections {}
// SAFETY: as above.
unsafe impl Sync for Connections {}

impl Connections {
    /// Maps the array with this descriptor.
    ///
    /// # Errors
    ///
    /// An I/O error if the kernel does not map it.
    pub fn map(map: OwnedFd) -> io::Result<Self> {
        let flags = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses aliases nothing.
        let memory = unsafe {
            mmap(
                std::ptr::null_mut(),
                BYTES,
                flags,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )
        }?;
        let cells = NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { cells, map })
    }

    /// Zeroes all counts: what an earlier process counted is gone with it.
    pub fn forget(&self) {
        for index in 0..CONNECTION_CELLS {
            self.cell(index).store(0, Ordering::Relaxed);
        }
    }

    /// The connections of one worker that came through the ingress netns.
    pub fn of_worker(&self, worker: u32) -> &AtomicU64 {
        self.cell(worker % WORKERS_MAX)
    }

    /// The connections that host listeners serve.
    pub fn of_host(&self) -> &AtomicU64 {
        self.cell(HOST_CONNECTIONS)
    }

    /// Has steer look whether a packet belongs to a connection of the host, from now on.
    pub fn mark_left_to_host(&self) {
        self.cell(LEFT_TO_HOST).store(1, Ordering::Relaxed);
    }

    /// Has it look no more, until a new connection is left to the host again.
    pub fn unmark_left_to_host(&self) {
        self.cell(LEFT_TO_HOST).store(0, Ordering::Relaxed);
    }

    fn cell(&self, index: u32) -> &AtomicU64 {
        debug_assert!(index < CONNECTION_CELLS);
        // SAFETY: the map has CONNECTION_CELLS values of 8 bytes, all mapped for as long as
        // self lives, and all callers stay below that.
        unsafe { self.cells.add(index as usize).as_ref() }
    }
}

impl AsFd for Connections {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `map` with this size, and no reference outlives self.
        let _ = unsafe { munmap(self.cells.as_ptr().cast(), BYTES) };
    }
}

/// Makes the entries of a map what `wanted` says: new ones first.
pub(super) fn make<K: Pod + Ord, V: Pod + PartialEq>(
    map: &mut HashMap<MapData, K, V>,
    wanted: &BTreeMap<K, V>,
) -> Result<(), MapError> {
    let held: BTreeMap<K, V> = map.iter().filter_map(Result::ok).collect();
    for (key, value) in wanted {
        if held.get(key) != Some(value) {
            map.insert(key, value, 0)?;
        }
    }
    for key in held.keys().filter(|key| !wanted.contains_key(key)) {
        map.remove(key)?;
    }
    Ok(())
}

fn fault(name: &'static str) -> impl FnOnce(MapError) -> MapFault {
    MapFault::of(name)
}

const BYTES: usize = CONNECTION_CELLS as usize * size_of::<u64>();
