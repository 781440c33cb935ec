//! The eBPF datapath, seen from user space: makes the ingress netns and its gate, loads and
//! attaches the programs, and keeps the kernel maps in step with devices, addresses and endpoints.
//!
//! It stands on the packet's line before `proxy/listen`, and on the change's line after publish.
//! The invariant: a packet is steered only when somebody listens where it is steered to, and only
//! over devices whose replies come back the same way.

mod addresses;
mod attach;
mod bpf;
mod btf;
mod dedicated;
mod denied;
mod detach;
mod devices;
mod dial;
mod epoch;
mod established;
mod flood;
mod gate;
mod local;
mod log;
mod maps;
mod neighbours;
mod netkit;
mod netlink;
mod netns;
mod object;
mod pins;
mod probe;
mod settings;
mod shortcut;
mod sources;
mod status;
mod sysctl;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _, stream};
use ingress_common::socket::LISTENER_GROUPS_MAX;
use ingress_common::steering::Settings as KernelSettings;
use ingress_core::plan::{ListenerPort, Plan};
use thiserror::Error;
use tracing::{debug, info};

pub use addresses::FrontendAddress;
pub use attach::{AttachError, GuardMode, TcMode};
use dedicated::Dedicated;
pub use dedicated::{DedicatedError, Refusal};
pub use denied::{Denied, GuardedError, SourceBudget};
pub use detach::Remains;
pub use devices::{DeviceStatus, Devices, PodClients, Role as DeviceRole};
pub use dial::{Reach, SocketKind, SocketMaker, make_transparent};
pub use flood::FLOOD_POLL;
pub use gate::{GateError, PortRange};
pub use maps::{Connections, Count, MapFault};
pub use netlink::NetlinkError;
pub use netns::Namespace;
pub use object::{Object, ObjectError};
use pins::{Pins, remove_pins};
pub use probe::{Finding, Report, State, open_bpf_file_system};
pub use settings::Settings;
pub use shortcut::{ShortcutMode, ShortcutStatus};
pub use status::{GateStatus, Status};

/// Why there is no netns datapath.
#[derive(Debug, Error)]
pub enum DatapathError {
    /// The machine lacks something; the finding says what and what helps.
    #[error("{subject}: {detail}", subject = .0.subject, detail = .0.detail)]
    Machine(Finding),
    /// A directory or namespace can't be made.
    #[error("failed to {attempt}")]
    Io {
        /// The operation that failed.
        attempt: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The gate can't be made.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// The programs can't be loaded.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// A program can't be attached.
    #[error(transparent)]
    Attach(#[from] AttachError),
    /// A map can't be written.
    #[error(transparent)]
    Map(#[from] MapFault),
    /// The maps of the guard can't be taken.
    #[error(transparent)]
    Guard(#[from] GuardedError),
    /// The dedicated uplink can't be had.
    #[error(transparent)]
    Dedicated(#[from] DedicatedError),
    /// There are too many ports.
    #[error("{LISTENER_GROUPS_MAX} ports are steered already")]
    NoRoom,
    /// The network configuration can't be read.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
}

/// The running datapath. Dropping it leaves everything in the kernel as it is, for the next daemon
/// to adopt; [`Datapath::close`] removes it.
pub struct Datapath {
    settings: Settings,
    netlink: netlink::Netlink,
    host: Arc<Namespace>,
    ingress: Arc<Namespace>,
    object: Object,
    maps: maps::Maps,
    epoch: epoch::Epoch,
    local: local::LocalAddresses,
    /// Of the gate, in bytes.
    mtu: u32,
    guarded: Box<denied::Guarded>,
    flood: flood::Flood,
    connections: Connections,
    devices: Devices,
    dedicated: Option<Dedicated>,
    core_attachments: Vec<attach::Attachment>,
    return_path: TcMode,
    reach: Arc<ArcSwap<Reach>>,
    shortcut: shortcut::Shortcut,
    listeners: Vec<ListenerPort>,
    /// Ports of them that nobody listens on any more, and that may have connections yet.
    draining: BTreeSet<u16>,
    /// Destinations that Services have and no device has.
    adopted: BTreeSet<SocketAddr>,
    /// Whether new connections to all of them are steered.
    is_steering: bool,
}

impl Datapath {
    /// Makes or adopts everything but the uplinks: nothing is steered yet.
    ///
    /// The stream yields when devices, addresses, routes or rules have changed, which calls for
    /// [`Datapath::reconcile`]. Has to be called on a tokio runtime, in the host's netns.
    pub async fn open(
        settings: Settings,
        report: &Report,
    ) -> Result<(Self, impl Stream<Item = ()> + Unpin + use<>), DatapathError> {
        if let Some(obstacle) = report.obstacle() {
            return Err(DatapathError::Machine(obstacle.clone()));
        }
        let pins = Pins::create(&settings)?;
        let host = Namespace::current().map_err(io_error("open the host's netns"))?;
        let (ingress, adopted) = Namespace::adopt_or_create(&settings.netns)
            .map_err(io_error("make the ingress netns"))?;
        debug!(netns = settings.netns, adopted, "ingress netns");
        let (netlink, messages) =
            netlink::Netlink::open(&host).map_err(io_error("reach netlink"))?;
        let mut object = Object::load(&pins.maps)?;
        log::follow(&mut object);
        let mut maps = maps::Maps::take(&mut object)?;
        let epoch = epoch::Epoch::new(object.take_map("EPOCH")?);
        let changes = epoch::follow(messages, epoch.clone());
        let connections = take_connections(&mut object)?;
        let mut devices = Devices::new(&settings, pins.links.clone());
        let mtu = devices.uplink_mtu(&netlink).await?;
        let gate = gate::open(&settings, mtu, &netlink, &ingress).await?;
        devices.gate = gate.index;
        let (local, inner_messages) = local::LocalAddresses::open(&ingress).await?;
        let ingress_netns = gate::ingress_netns(&settings.gate, &netlink).await?;
        let (return_path, return_path_mode) =
            attach_return_path(&mut object, &gate, settings.tc, &pins.links)?;
        let dispatch = attach::sk_lookup(object.dispatch()?, &ingress, &pins.links)?;
        let sources = sources::prefixes(&settings.sources);
        maps.add_sources(&sources)?;
        maps.set_settings(KernelSettings {
            gate_ifindex: gate.index,
            workers: settings.workers,
            upstream_port_min: settings.upstream_ports.min,
            upstream_port_max: settings.upstream_ports.max,
            ingress_netns,
            hash_key: hash_key()?,
            restricts_sources: (!sources.is_empty()).into(),
        })?;
        maps.remove_other_sources(&sources)?;
        let shortcut = shortcut::Shortcut::open(settings.shortcut, &mut object, &ingress);
        let sides = dedicated::Sides::new(&host, &netlink, &ingress, local.inside());
        // The last that may fail: without the rest, the host itself serves the device's clients.
        let dedicated = Dedicated::open(&settings, &sides, &mut object, &pins.links);
        let dedicated = dedicated.await?;
        let changes = stream::select(changes, dedicated::changes(inner_messages));
        let datapath = Self {
            guarded: Box::new(denied::Guarded::take(&mut object, settings.source_budget)?),
            flood: flood::Flood::new(settings.flood_threshold),
            settings,
            netlink,
            host: Arc::new(host),
            ingress: Arc::new(ingress),
            object,
            maps,
            epoch,
            local,
            mtu,
            connections,
            devices,
            dedicated,
            core_attachments: vec![return_path, dispatch],
            return_path: return_path_mode,
            reach: Arc::default(),
            shortcut,
            listeners: Vec::new(),
            draining: BTreeSet::new(),
            adopted: BTreeSet::new(),
            is_steering: false,
        };
        Ok((datapath, changes.boxed()))
    }

    /// The namespace that listeners and workers belong into.
    pub fn ingress(&self) -> Arc<Namespace> {
        Arc::clone(&self.ingress)
    }

    /// Makes upstream sockets for workers.
    pub fn socket_maker(&self) -> SocketMaker {
        SocketMaker {
            ingress: Arc::clone(&self.ingress),
            host: Arc::clone(&self.host),
            reach: Arc::clone(&self.reach),
        }
    }

    /// Where the programs see how many connections workers have.
    pub fn connections(&self) -> &Connections {
        &self.connections
    }

    /// Which endpoints are direct.
    pub fn reach(&self) -> Arc<Reach> {
        self.reach.load_full()
    }

    /// Gives new connections on a TCP port to workers' listening sockets, the first to worker 0.
    pub fn listen(
        &mut self,
        port: u16,
        sockets: &[std::net::TcpListener],
    ) -> Result<(), DatapathError> {
        let known = self.listeners.iter().find(|known| known.port == port);
        let group = match known {
            Some(known) => known.group,
            None => self.free_group().ok_or(DatapathError::NoRoom)?,
        };
        for (worker, socket) in (0..).zip(sockets) {
            self.maps.set_listener(group, worker, socket)?;
        }
        if !self.draining.remove(&port) {
            self.listeners.push(ListenerPort {
                protocol: TCP,
                port,
                group,
            });
        }
        // Until everything is steered, the host goes on accepting, and what it has accepted stays
        // its own.
        self.connections.mark_left_to_host();
        self.is_steering = false;
        Ok(())
    }

    fn free_group(&self) -> Option<u32> {
        (0..LISTENER_GROUPS_MAX).find(|group| {
            let mut groups = self.listeners.iter().map(|known| known.group);
            groups.all(|known| known != *group)
        })
    }

    /// Leaves new connections on a port to the host; those that are there stay steered.
    pub fn unlisten(&mut self, port: u16) {
        if let Some(known) = self.listeners.iter().find(|known| known.port == port) {
            self.maps.clear_group(known.group);
            self.draining.insert(port);
        }
    }

    /// Whether ports are steered that nobody listens on.
    pub fn is_draining(&self) -> bool {
        !self.draining.is_empty()
    }

    /// Forgets ports that nobody listens on and that have no connection left; the next
    /// reconciliation steers them no more.
    pub fn forget_drained(&mut self) -> Result<(), DatapathError> {
        let draining = &self.draining;
        let over = self.ingress.run(|| {
            let ports = draining.iter().copied();
            ports
                .filter(|port| !established::any_at(&[*port]))
                .collect()
        });
        let over: BTreeSet<u16> = over.map_err(io_error("enter the ingress netns"))?;
        if !over.is_empty() {
            self.listeners.retain(|known| !over.contains(&known.port));
            self.draining.retain(|port| !over.contains(port));
            // Perhaps the host has no connections of ours any more.
            self.is_steering = false;
        }
        Ok(())
    }

    /// Drops what comes from these networks, and from no others, to frontends. Gives how many networks
    /// found no room.
    pub fn set_denied(&mut self, denied: &[Denied]) -> Result<usize, DatapathError> {
        Ok(self.guarded.set(denied)?)
    }

    /// Whether [`Datapath::set_plain_endpoints`] has any effect.
    pub fn has_shortcut(&self) -> bool {
        self.shortcut.is_on()
    }

    /// Sets the endpoints whose connections may take the shortcut where they are pods of this node:
    /// those that speak HTTP without TLS. The next reconciliation heeds them.
    pub fn set_plain_endpoints(&mut self, endpoints: BTreeSet<SocketAddr>) {
        self.shortcut.plain_endpoints = endpoints;
    }

    /// Sets the destinations that are steered although no device has them: addresses of load balancers.
    /// The next reconciliation heeds those whose port somebody listens on.
    pub fn set_adopted(&mut self, adopted: BTreeSet<SocketAddr>) {
        self.adopted = adopted;
    }

    /// Brings programs and maps in step with the devices and addresses of the node and with
    /// `endpoints`; what can't be brought in step is served through the host.
    pub async fn reconcile(&mut self, endpoints: &BTreeSet<IpAddr>) -> Result<(), DatapathError> {
        let (addresses, reach) = self
            .devices
            .refresh(&mut self.object, &self.netlink, endpoints)
            .await?;
        self.follow_mtu().await?;
        self.maps.set_vlans(self.devices.vlans())?;
        self.guarded.set_answering(self.devices.answering())?;
        self.maps.set_steered_devices(&self.devices.steered())?;
        let inner = match &mut self.dedicated {
            Some(dedicated) => dedicated.refresh().await?,
            None => BTreeSet::new(),
        };
        let plan = Plan::new(&addresses, &self.listeners, &self.adopted).with_frontends(&inner);
        self.local.add(&plan, &inner).await?;
        self.maps.apply(&plan)?;
        self.local.remove_others(&plan, &inner).await?;
        self.epoch.advance();
        if !std::mem::replace(&mut self.is_steering, true) {
            let ports: Vec<u16> = self.listeners.iter().map(|port| port.port).collect();
            if !established::any_at(&ports) {
                self.connections.unmark_left_to_host();
            }
        }
        if **self.reach.load() != reach {
            info!(
                direct = reach.direct.len(),
                of = endpoints.len(),
                "endpoints reached directly"
            );
            self.reach.store(Arc::new(reach));
        }
        if self.shortcut.is_on() {
            self.shortcut.follow(&self.reach.load().direct);
        }
        let kept = self
            .core_attachments
            .iter()
            .chain(self.devices.attachments())
            .chain(self.dedicated.iter().filter_map(Dedicated::attachment))
            .collect::<Vec<_>>();
        attach::forget_other_links(&self.devices.pins, &kept)
            .map_err(io_error("remove the links of devices that are gone"))
    }

    /// Has the gate carry packets as large as the uplinks do, and no larger: the host's stack would tell
    /// itself, and not the ingress netns, that they are too large.
    async fn follow_mtu(&mut self) -> Result<(), DatapathError> {
        let mtu = self.devices.mtu().unwrap_or(self.mtu);
        if mtu != self.mtu {
            let inside = self.local.inside();
            gate::set_mtu(&self.settings.gate, mtu, &self.netlink, inside).await?;
            info!(from = self.mtu, to = mtu, "MTU of the gate changed");
            self.mtu = mtu;
        }
        Ok(())
    }

    /// Steers no more new connections; those of the ingress netns go on.
    pub fn stop_accepting(&mut self) {
        self.maps.clear_listeners();
    }

    /// Detaches everything, gives the dedicated uplink back to the host, and removes maps, gate and ingress
    /// netns.
    pub async fn close(mut self) -> Result<(), DatapathError> {
        self.maps.clear_listeners();
        self.devices.detach_all();
        for attachment in self.core_attachments.drain(..) {
            attachment.detach();
        }
        if let Some(dedicated) = self.dedicated.take() {
            dedicated.close(&self.host, &self.netlink).await?;
        }
        drop(self.maps);
        drop(self.guarded);
        drop(self.object);
        gate::close(&self.settings.gate, &self.netlink).await?;
        Namespace::remove(&self.settings.netns).map_err(io_error("remove the ingress netns"))?;
        // The last, for another daemon may begin once it has the name of this directory.
        remove_pins(&self.settings.bpffs).map_err(io_error("remove the pins"))
    }
}

fn attach_return_path(
    object: &mut Object,
    gate: &netlink::Link,
    tc: TcMode,
    pins: &Path,
) -> Result<(attach::Attachment, TcMode), DatapathError> {
    let (program, name) = (object.return_path()?, "return_path");
    Ok(if gate.is_netkit {
        attach::netkit(program, name, gate, pins)?
    } else {
        attach::tc(program, name, gate, tc, pins)?
    })
}

/// The map of connections, without what an earlier process counted.
fn take_connections(object: &mut Object) -> Result<Connections, DatapathError> {
    let map = object.take_array("CONNECTIONS")?;
    let connections = (map.fd().as_fd().try_clone_to_owned())
        .and_then(Connections::map)
        .map_err(io_error("map `CONNECTIONS` into memory"))?;
    connections.forget();
    Ok(connections)
}

/// A key that clients cannot know, so that they cannot choose their worker.
fn hash_key() -> Result<[u32; 2], DatapathError> {
    let mut halves = [[0; 4]; 2];
    for half in &mut halves {
        aws_lc_rs::rand::fill(half)
            .map_err(|_| io::Error::other("no source of random numbers"))
            .map_err(io_error("make the key of the hash"))?;
    }
    Ok(halves.map(u32::from_ne_bytes))
}

fn io_error(attempt: &'static str) -> impl FnOnce(io::Error) -> DatapathError {
    move |source| DatapathError::Io { attempt, source }
}

/// IP protocol number.
const TCP: u8 = 6;
