//! Every map: what it means, its bound, who writes it and who reads it.
//!
//! All but those of the shortcut are pinned by name, so that they outlive the daemon and a new version
//! adopts them. The shortcut ends with the sockets of the daemon that has it.

use aya_ebpf::helpers::{
    bpf_ktime_get_coarse_ns, bpf_ktime_get_ns, bpf_map_lookup_elem, bpf_sk_release,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, SockHash, SockMap};
use aya_ebpf::programs::TcContext;
use ingress_common::cache::{NEXT_HOPS_MAX, NextHop, STEERED_CONNECTIONS_MAX, SteeredConnection};
use ingress_common::guard::{ANSWERING_MAX, BUDGETS_MAX, DENIED_MAX, GuardSettings, Mac, NO_TABLE};
use ingress_common::shortcut::{
    Flow, FlowSockets, LocalEndpoint, SHORTCUT_ENDPOINTS_MAX, SHORTCUT_FLOWS_MAX, ShortcutSettings,
};
use ingress_common::socket::{
    CONNECTION_CELLS, HOST_CONNECTIONS, LEFT_TO_HOST, LISTENER_GROUPS_MAX, Port, WORKERS_MAX,
    listener_index,
};
use ingress_common::steering::{
    Address, CLIENTS_AND_REPLIES, FragmentedDatagram, Frontend, REPLIES, SOURCES_MAX, Settings,
    VLANS_MAX, Vlan,
};
use ingress_common::verdict::{Program, REASONS_MAX, Reason, counter_index};
use ingress_ebpf::budget;
use ingress_ebpf::decide::screen::Lists;
use ingress_ebpf::decide::{Connection, Frontends, Scope, Socket, Stack, Tables};
use ingress_ebpf::parse::{Network, Version};

use crate::sockets;

/// The node's settings: the only value of this map. Written by user space, read by all programs.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::pinned(1, 0);

/// Frontends and their listener group. Written by user space, read by guard and steer.
#[map]
pub(crate) static FRONTENDS: HashMap<Frontend, u32> = HashMap::pinned(4096, BPF_F_NO_PREALLOC);

/// Addresses that upstream connections leave from. Written by user space, read by steer.
#[map]
pub(crate) static UPSTREAM_SOURCES: HashMap<Address, u32> = HashMap::pinned(64, BPF_F_NO_PREALLOC);

/// Devices (by ifindex) that steer is attached to, with what it takes from them: [`REPLIES`] or
/// [`CLIENTS_AND_REPLIES`]. Written by user space, read by steer and return_path.
#[map]
pub(crate) static STEERED_DEVICES: HashMap<u32, u32> = HashMap::pinned(4096, BPF_F_NO_PREALLOC);

/// The epoch of what programs remember: the only value of this map. Advanced by user space whenever the
/// kernel reports another route, rule, address, device or neighbour.
#[map]
pub(crate) static EPOCH: Array<u32> = Array::pinned(1, 0);

/// Next hops, each CPU's own, in the slot of their addresses. return_path writes and reads it.
#[map]
pub(crate) static NEXT_HOPS: PerCpuArray<NextHop> = PerCpuArray::pinned(NEXT_HOPS_MAX, 0);

/// Connections of the ingress netns, each CPU's own, in the slot of their addresses and ports. steer
/// writes and reads it.
#[map]
pub(crate) static STEERED_CONNECTIONS: PerCpuArray<SteeredConnection> =
    PerCpuArray::pinned(STEERED_CONNECTIONS_MAX, 0);

/// Fragmented datagrams whose first fragment was steered, and when (`CLOCK_MONOTONIC`, in
/// nanoseconds). The oldest make room; steer writes and reads it.
#[map]
pub(crate) static FRAGMENTS: LruHashMap<FragmentedDatagram, u64> = LruHashMap::pinned(4096, 0);

/// VLANs of steered devices, and the devices (ifindex) that the host takes their frames on. Written
/// by user space, read by steer.
#[map]
pub(crate) static VLANS: HashMap<Vlan, u32> = HashMap::pinned(VLANS_MAX, BPF_F_NO_PREALLOC);

/// Networks whose clients may open connections (1) or may not (0), by the longest prefix; IPv4 is
/// mapped. Written by user space, read by steer where the settings say that sources are restricted.
#[map]
pub(crate) static SOURCES: LpmTrie<Address, u32> = LpmTrie::pinned(SOURCES_MAX, 0);

/// The settings of the guard: the only value of this map. Written by user space, read by guard.
#[map]
pub(crate) static GUARD_SETTINGS: Array<GuardSettings> = Array::pinned(1, 0);

/// Denied networks and until when (`CLOCK_MONOTONIC`, in nanoseconds; 0 for ever); IPv4 is mapped. The
/// settings say whether this table is in force, or [`DENIED_NEXT`]. Written by user space, read by
/// guard.
#[map]
pub(crate) static DENIED: LpmTrie<Address, u64> = LpmTrie::pinned(DENIED_MAX, 0);

/// The other table of denied networks.
#[map]
pub(crate) static DENIED_NEXT: LpmTrie<Address, u64> = LpmTrie::pinned(DENIED_MAX, 0);

/// Sources, and when their budget of new connections is full again (`CLOCK_MONOTONIC`, in
/// nanoseconds). The oldest make room; guard writes and reads it.
#[map]
pub(crate) static BUDGETS: LruHashMap<Address, u64> = LruHashMap::pinned(BUDGETS_MAX, 0);

/// Uplinks (ifindex) that the guard may answer SYNs on, with their link-layer address: those without
/// VLANs, whose tags a NIC may have taken off before. Written by user space, read by guard.
#[map]
pub(crate) static ANSWERING_DEVICES: HashMap<u32, Mac> =
    HashMap::pinned(ANSWERING_MAX, BPF_F_NO_PREALLOC);

/// Ports and their listener group. Written by user space, read by dispatch.
#[map]
pub(crate) static PORTS: HashMap<Port, u32> = HashMap::pinned(1024, BPF_F_NO_PREALLOC);

/// Listening sockets by group and worker; the kernel removes a socket when it is closed. Written
/// by user space, read by dispatch and, to see whether anybody listens, by steer.
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::pinned(LISTENER_GROUPS_MAX * WORKERS_MAX, 0);

/// Open downstream connections of each worker, then those of all host listeners: written by user
/// space through a memory mapping, read by dispatch and steer. Then the mark [`LEFT_TO_HOST`],
/// which steer writes.
#[map]
pub(crate) static CONNECTIONS: Array<u64> = Array::pinned(CONNECTION_CELLS, BPF_F_MMAPABLE);

/// Packets by program and reason, for each CPU. Written by all programs, read by user space.
#[map]
pub(crate) static COUNTERS: PerCpuArray<u64> =
    PerCpuArray::pinned(Program::ALL.len() as u32 * REASONS_MAX, 0);

/// The settings of the shortcut's programs: the only value of this map. Written by user space, read by
/// them.
#[map]
pub(crate) static SHORTCUT_SETTINGS: Array<ShortcutSettings> = Array::with_max_entries(1, 0);

/// Endpoints on this node whose connections may take the shortcut. Written by user space, read by
/// enrol.
#[map]
pub(crate) static SHORTCUT_ENDPOINTS: HashMap<LocalEndpoint, u32> =
    HashMap::with_max_entries(SHORTCUT_ENDPOINTS_MAX, BPF_F_NO_PREALLOC);

/// Connections of the proxy to them, with their sockets. Written by enrol, read by enrol and send.
#[map]
pub(crate) static SHORTCUT_FLOWS: HashMap<Flow, FlowSockets> =
    HashMap::with_max_entries(SHORTCUT_FLOWS_MAX, BPF_F_NO_PREALLOC);

/// The proxy's sockets of these connections; the kernel removes a socket when it is closed. Written by
/// enrol, read by send.
#[map]
pub(crate) static PROXY_SOCKETS: SockHash<Flow> = SockHash::with_max_entries(SHORTCUT_FLOWS_MAX, 0);

/// The pods' sockets of these connections, likewise.
#[map]
pub(crate) static POD_SOCKETS: SockHash<Flow> = SockHash::with_max_entries(SHORTCUT_FLOWS_MAX, 0);

/// Adds one packet to a counter.
#[inline(always)]
pub(crate) fn count(program: Program, reason: Reason) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter_index(program, reason)) {
        // SAFETY: the cell belongs to this CPU. A program is not preempted by another run of itself
        // on the same CPU, so nobody else writes it now; only send, which runs in system calls, may
        // be, and then one of the two counts is lost.
        unsafe { *cell += 1 };
    }
}

/// Whether an event is logged: the first of its reason on this CPU and every 1,024th after it, so that
/// a flood of packets does not flood the log. Called before the event is counted.
#[inline(always)]
pub(crate) fn should_log(program: Program, reason: Reason) -> bool {
    COUNTERS
        .get(counter_index(program, reason))
        .is_some_and(|count| count % LOG_EVERY == 0)
}

/// The settings, once user space has written them.
#[inline(always)]
pub(crate) fn settings() -> Result<&'static Settings, Reason> {
    SETTINGS
        .get(0)
        .filter(|settings| settings.gate_ifindex != 0)
        .ok_or(Reason::NotReady)
}

/// The epoch of what is looked up from now on.
#[inline(always)]
pub(crate) fn epoch() -> u32 {
    EPOCH.get(0).copied().unwrap_or(0)
}

/// Whether somebody at this address may open connections to frontends.
#[inline(always)]
pub(crate) fn may_connect(settings: &Settings, source: &Address) -> bool {
    settings.restricts_sources == 0 || SOURCES.get(Key::new(ADDRESS_BITS, *source)) == Some(&1)
}

/// Whether a table of denied networks is in force.
#[inline(always)]
pub(crate) fn is_anybody_denied() -> bool {
    GUARD_SETTINGS
        .get(0)
        .is_some_and(|settings| settings.denied_table != NO_TABLE)
}

/// The shift of the listeners' windows, while the guard answers SYNs.
#[inline(always)]
pub(crate) fn answering() -> Option<u8> {
    let settings = GUARD_SETTINGS.get(0)?;
    if settings.answers_syns == 0 {
        return None;
    }
    Some(settings.window_scale as u8)
}

/// What steer takes from a device.
#[inline(always)]
pub(crate) fn scope(ifindex: u32) -> Option<Scope> {
    // SAFETY: the value is one aligned word.
    match unsafe { STEERED_DEVICES.get(&ifindex) } {
        Some(&REPLIES) => Some(Scope::Replies),
        Some(&CLIENTS_AND_REPLIES) => Some(Scope::ClientsAndReplies),
        Some(_) | None => None,
    }
}

/// Whether a worker listens for this group. The first worker stands for all: they start and end
/// together.
#[inline(always)]
fn is_listening(group: u32) -> bool {
    let index = listener_index(group, 0);
    // SAFETY: the map is a socket map (a static that the loader replaces by its descriptor) with
    // u32 keys; the reference that a successful lookup takes is released at once.
    unsafe {
        let socket = bpf_map_lookup_elem(
            (&raw const LISTENERS).cast_mut().cast(),
            (&raw const index).cast(),
        );
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket);
        true
    }
}

/// Notes that a new connection was left to the host, whoever serves there.
#[inline(always)]
pub(crate) fn mark_left_to_host() {
    if let Some(cell) = CONNECTIONS.get_ptr_mut(LEFT_TO_HOST) {
        // SAFETY: one aligned word; whoever writes it at the same time writes the same or clears
        // it at start, and both are sound.
        unsafe { cell.write_volatile(1) };
    }
}

/// Reads a cell of [`CONNECTIONS`].
#[inline(always)]
pub(crate) fn connections(index: u32) -> u64 {
    CONNECTIONS.get(index).copied().unwrap_or(0)
}

/// Frontends as the deciding half sees them.
pub(crate) struct KernelFrontends;

impl Frontends for KernelFrontends {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        // SAFETY: user space replaces whole values; a value read while it is replaced is the old
        // or the new one, since it is one aligned word.
        unsafe { FRONTENDS.get(frontend) }.copied()
    }
}

impl Lists for KernelFrontends {
    #[inline(always)]
    fn is_denied(&self, source: &Address) -> bool {
        let table = match GUARD_SETTINGS.get(0).map(|settings| settings.denied_table) {
            Some(1) => &DENIED,
            Some(2) => &DENIED_NEXT,
            _ => return false,
        };
        match table.get(Key::new(ADDRESS_BITS, *source)) {
            None => false,
            Some(&0) => true,
            Some(&until) => now() < until,
        }
    }

    #[inline(always)]
    fn takes_connection(&self, source: &Address) -> bool {
        let limited = GUARD_SETTINGS
            .get(0)
            .filter(|settings| settings.interval_ns != 0);
        let Some(settings) = limited else {
            return true;
        };
        let source = budget::source(source, &settings.v4_mask, &settings.v6_mask);
        // SAFETY: the value is one aligned word.
        let full_at = unsafe { BUDGETS.get(&source) }.copied().unwrap_or(0);
        let (interval, burst) = (settings.interval_ns, settings.burst_ns);
        match budget::take(full_at, now(), interval, burst) {
            Some(full_at) => {
                // A table that has no room for the moment limits nobody.
                let _ = BUDGETS.insert(source, full_at, 0);
                true
            }
            None => false,
        }
    }
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_ns() }
}

/// `CLOCK_MONOTONIC` as of the last tick, in nanoseconds (kernel 5.11+).
#[inline(always)]
pub(crate) fn coarse_now() -> u64 {
    // SAFETY: the helper takes no arguments.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Maps and sockets as the deciding half sees them, while one packet waits.
pub(crate) struct KernelTables<'a> {
    /// The packet.
    pub(crate) ctx: &'a TcContext,
    /// Its IP version.
    pub(crate) version: Version,
    /// The node's settings.
    pub(crate) settings: &'a Settings,
}

impl Frontends for KernelTables<'_> {
    #[inline(always)]
    fn frontend(&self, frontend: &Frontend) -> Option<u32> {
        KernelFrontends.frontend(frontend)
    }
}

impl Tables for KernelTables<'_> {
    #[inline(always)]
    fn is_upstream_source(&self, address: &Address) -> bool {
        UPSTREAM_SOURCES.get_ptr(address).is_some()
    }

    #[inline(always)]
    fn first_fragment_age(&self, datagram: &FragmentedDatagram) -> Option<u64> {
        // SAFETY: the value is one aligned word, and the helper takes no arguments.
        let (since, now) = unsafe { (*FRAGMENTS.get(datagram)?, bpf_ktime_get_ns()) };
        Some(now.saturating_sub(since))
    }

    #[inline(always)]
    fn vlan_device(&self, vlan: &Vlan) -> Option<u32> {
        // SAFETY: the value is one aligned word.
        unsafe { VLANS.get(vlan) }.copied()
    }

    #[inline(always)]
    fn may_connect(&self, source: &Address) -> bool {
        may_connect(self.settings, source)
    }

    #[inline(always)]
    fn is_listening(&self, group: u32) -> bool {
        is_listening(group)
    }

    #[inline(always)]
    fn host_may_have_connections(&self) -> bool {
        connections(HOST_CONNECTIONS) > 0 || connections(LEFT_TO_HOST) > 0
    }

    #[inline(always)]
    fn socket(&self, stack: Stack, connection: &Connection) -> Option<Socket> {
        sockets::state(
            self.ctx,
            stack,
            self.version,
            connection,
            self.settings.ingress_netns,
        )
    }

    #[inline(always)]
    fn brings_cookie(&self, network: &Network, connection: &Connection) -> bool {
        sockets::is_cookie_valid(self.ctx, network, connection, self.settings.ingress_netns)
    }
}

const ADDRESS_BITS: u32 = 128;
const LOG_EVERY: u64 = 1024;
const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_MMAPABLE: u32 = 1 << 10;
