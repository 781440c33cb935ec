//! The dedicated uplink: a device that is given to the ingress netns as a whole (`--uplink-in-netns`), with its
//! addresses and routes. The kernel itself brings what its clients send to the workers' listeners, and
//! what workers answer back to the clients; no program steers it. The way to endpoints stays the gate.
//!
//! Inside, packets that leave from an address of the device are routed by a table of their own, so that answers
//! to clients of other uplinks go on to leave by the gate. That table comes before the table `local`: the
//! ingress netns takes packets for the addresses of the host's uplinks too, and would answer the host itself.
//!
//! The invariant: from before the device moves until it is back, its addresses and routes are on record
//! (`record.rs`).

mod error;
mod record;
mod refusal;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::time::sleep;
use tracing::{info, warn};

pub use self::error::DedicatedError;
use self::error::netlink;
use self::record::Record;
pub(super) use self::record::Store;
use self::refusal::Facts;
pub use self::refusal::Refusal;
use super::attach::{self, Attachment, GuardMode};
use super::devices::{DeviceStatus, Role};
use super::gate::{self, GateError, LOOPBACK};
use super::netlink::{Link, Netlink, Place};
use super::netns::Namespace;
use super::object::Object;
use super::settings::Settings;
use super::sysctl;

/// Both sides of the move.
pub(super) struct Sides<'a> {
    /// The host's netns.
    pub(super) host: &'a Namespace,
    /// Its devices.
    pub(super) outside: &'a Netlink,
    /// The ingress netns.
    pub(super) ingress: &'a Namespace,
    /// Its devices.
    pub(super) inside: &'a Netlink,
}

impl<'a> Sides<'a> {
    /// Each namespace with its devices.
    pub(super) const fn new(
        host: &'a Namespace,
        outside: &'a Netlink,
        ingress: &'a Namespace,
        inside: &'a Netlink,
    ) -> Self {
        Self {
            host,
            outside,
            ingress,
            inside,
        }
    }
}

/// The device, in the ingress netns.
pub(super) struct Dedicated {
    store: Store,
    record: Record,
    inside: Netlink,
    link: Link,
    /// Addresses that have a rule.
    addresses: BTreeSet<IpAddr>,
    guard: Option<Attachment>,
    status: DeviceStatus,
}

impl Dedicated {
    /// Moves the device that the settings name into the ingress netns, or adopts the one that is there. Gives
    /// back what an earlier daemon has moved and the settings do not name.
    pub(super) async fn open(
        settings: &Settings,
        sides: &Sides<'_>,
        object: &mut Object,
        pins: &Path,
    ) -> Result<Option<Self>, DedicatedError> {
        let store = Store::below(&settings.bpffs);
        let recorded = store.read();
        let is_wanted = |record: &Record| Some(&record.name) == settings.uplink_in_netns.as_ref();
        if let Some(record) = recorded.as_ref().filter(|record| !is_wanted(record)) {
            give_back(record, sides.outside, sides.host, Some(sides.inside)).await?;
            removed(&store, record)?;
        }
        let Some(name) = &settings.uplink_in_netns else {
            return Ok(None);
        };
        let recorded = recorded.filter(is_wanted);
        let failed = netlink(name);
        let there = sides.inside.link(inner_name(name)).await.map_err(failed)?;
        let record = match there {
            Some(link) => adopt(name, recorded, &link, sides.inside, &store).await?,
            None => move_in(name, recorded, settings, sides, &store).await?,
        };
        let mut dedicated = Self::settle(store, record, sides).await?;
        dedicated.attach_guard(settings, sides.ingress, object, pins)?;
        let status = &dedicated.status;
        info!(device = status.name, guard = ?status.guard, reason = status.reason,
              "device is in the ingress network namespace");
        Ok(Some(dedicated))
    }

    /// Sets the device up inside and gives it what is on record.
    async fn settle(
        store: Store,
        record: Record,
        sides: &Sides<'_>,
    ) -> Result<Self, DedicatedError> {
        let name = inner_name(&record.name);
        let device = || record.name.clone();
        let link = gate::find(sides.inside, name).await?;
        let set = sides.ingress.run(|| sysctls(name));
        set.and_then(|set| set)
            .map_err(|source| DedicatedError::Io {
                device: device(),
                attempt: "set the sysctls",
                source,
            })?;
        let failed = || netlink(&record.name);
        let found = sides
            .inside
            .configuration(link.index)
            .await
            .map_err(failed())?;
        sides.inside.lower_local_table().await.map_err(failed())?;
        sides
            .inside
            .set_up(link.index, None)
            .await
            .map_err(failed())?;
        if found.global_addresses().is_empty() {
            let place = Place::Table(TABLE);
            let configured = sides
                .inside
                .configure(link.index, &record.configuration, place);
            configured.await.map_err(failed())?;
        }
        Ok(Self {
            store,
            inside: sides.inside.clone(),
            addresses: BTreeSet::new(),
            guard: None,
            status: DeviceStatus {
                name: device(),
                role: Role::Dedicated,
                datapath: "netns".into(),
                steer: None,
                guard: GuardMode::Off,
                reason: None,
            },
            link,
            record,
        })
    }

    fn attach_guard(
        &mut self,
        settings: &Settings,
        ingress: &Namespace,
        object: &mut Object,
        pins: &Path,
    ) -> Result<(), DedicatedError> {
        let guard = object.guard()?;
        let attached = ingress.run(|| attach::xdp(guard, &self.link, settings.guard, pins));
        let (attachment, mode, reason) = attached.map_err(|source| DedicatedError::Io {
            device: self.record.name.clone(),
            attempt: "attach the guard",
            source,
        })?;
        self.guard = attachment;
        self.status.guard = mode;
        let whole = "in the ingress netns as a whole, not steered";
        let routes = self.record.configuration.has_default_routes();
        let far = if routes == [false, false] {
            "; no default route: clients beyond its networks are answered through the gate"
        } else {
            ""
        };
        let guard = reason.map_or_else(String::new, |reason| format!("; {reason}"));
        self.status.reason = Some(format!("{whole}{far}{guard}"));
        Ok(())
    }

    /// Follows the addresses that the device has in the ingress netns, and gives them.
    pub(super) async fn refresh(&mut self) -> Result<BTreeSet<IpAddr>, DedicatedError> {
        let failed = || netlink(&self.record.name);
        let found = self
            .inside
            .configuration(self.link.index)
            .await
            .map_err(failed())?;
        let addresses = found.global_addresses();
        for address in addresses.difference(&self.addresses) {
            let added = self.inside.add_source_rule(*address, TABLE);
            added.await.map_err(failed())?;
        }
        for address in self.addresses.difference(&addresses) {
            self.inside.remove_source_rule(*address, TABLE).await;
        }
        if addresses.is_empty() {
            warn!(
                device = self.record.name,
                "device has no address in the ingress network namespace"
            );
        } else if addresses != self.record.configuration.global_addresses() {
            self.record.configuration = self.record.configuration.following(&found);
            written(&self.store, &self.record)?;
        }
        self.addresses.clone_from(&addresses);
        Ok(addresses)
    }

    /// Its addresses, as of the last refresh.
    pub(super) fn addresses(&self) -> &BTreeSet<IpAddr> {
        &self.addresses
    }

    /// The line of the device.
    pub(super) fn status(&self) -> &DeviceStatus {
        &self.status
    }

    /// The programs attached to it.
    pub(super) fn attachment(&self) -> Option<&Attachment> {
        self.guard.as_ref()
    }

    /// Detaches the guard and gives the device back to the host.
    pub(super) async fn close(
        mut self,
        host: &Namespace,
        outside: &Netlink,
    ) -> Result<(), DedicatedError> {
        if let Some(guard) = self.guard.take() {
            guard.detach();
        }
        give_back(&self.record, outside, host, Some(&self.inside)).await?;
        removed(&self.store, &self.record)
    }
}

/// Gives the device of a record back to the host, with addresses and routes, wherever it is now. Returns its
/// name if there was anything to give back.
pub(super) async fn restore(
    bpffs: &Path,
    host: &Namespace,
    outside: &Netlink,
    ingress: Option<&Namespace>,
) -> Result<Option<String>, DedicatedError> {
    let store = Store::below(bpffs);
    let Some(record) = store.read() else {
        return Ok(None);
    };
    let inside = ingress.map(Netlink::open).transpose();
    let inside = inside
        .map_err(GateError::Namespace)?
        .map(|(inside, _)| inside);
    let is_back = give_back(&record, outside, host, inside.as_ref()).await?;
    removed(&store, &record)?;
    Ok(is_back.then_some(record.name))
}

/// Yields when devices or addresses of the ingress netns have changed.
pub(super) fn changes(
    messages: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>,
) -> impl Stream<Item = ()> {
    messages.filter_map(|message| async move {
        matches!(
            message.payload,
            NetlinkPayload::InnerMessage(
                RouteNetlinkMessage::NewAddress(_)
                    | RouteNetlinkMessage::DelAddress(_)
                    | RouteNetlinkMessage::DelLink(_)
            )
        )
        .then_some(())
    })
}

/// The record of a device that is inside already.
async fn adopt(
    name: &str,
    recorded: Option<Record>,
    link: &Link,
    inside: &Netlink,
    store: &Store,
) -> Result<Record, DedicatedError> {
    if let Some(record) = recorded {
        return Ok(record);
    }
    let configuration = inside
        .configuration(link.index)
        .await
        .map_err(netlink(name))?;
    let record = Record {
        name: name.to_owned(),
        mac: link.mac.clone(),
        configuration: configuration.in_main_table(),
    };
    written(store, &record)?;
    Ok(record)
}

/// Moves a device of the host, and gives its record.
async fn move_in(
    name: &str,
    recorded: Option<Record>,
    settings: &Settings,
    sides: &Sides<'_>,
    store: &Store,
) -> Result<Record, DedicatedError> {
    let refused = |refusal| DedicatedError::Refused {
        device: name.to_owned(),
        refusal,
    };
    let failed = || netlink(name);
    let links = links_with(name, recorded.is_some(), sides.outside).await?;
    let link = links.iter().find(|link| link.name == name);
    let link = link.ok_or_else(|| refused(Refusal::Missing))?;
    let found = sides
        .outside
        .configuration(link.index)
        .await
        .map_err(failed())?;
    // A device whose namespace has ended comes back without anything.
    let recorded = recorded.filter(|record| record.mac == link.mac);
    let record = match recorded {
        Some(record) if found.global_addresses().is_empty() => record,
        _ => Record {
            name: name.to_owned(),
            mac: link.mac.clone(),
            configuration: found,
        },
    };
    let controller = links
        .iter()
        .find(|other| Some(other.index) == link.controller);
    let facts = Facts {
        link,
        addresses: &record.configuration.global_addresses(),
        controller: controller.map(|controller| &*controller.name),
        default_routes: &sides.outside.default_routes().await.map_err(failed())?,
        uplinks: &settings.uplinks,
        node_addresses: &settings.node_addresses,
        is_wireless: refusal::is_wireless(name),
    };
    if let Some(refusal) = facts.refusal() {
        return Err(refused(refusal));
    }
    written(store, &record)?;
    let moved = sides
        .outside
        .move_link(link.index, inner_name(name), sides.ingress)
        .await;
    if let Err(source) = moved {
        removed(store, &record)?;
        // Before 6.14 the kernel says so only now.
        return Err(if source.is_invalid() {
            refused(Refusal::Immutable)
        } else {
            netlink(name)(source)
        });
    }
    Ok(record)
}

/// The host's devices. One that is on record may be on its way: the kernel brings a device back some time after
/// the end of its namespace, as when a container has ended.
async fn links_with(
    name: &str,
    is_recorded: bool,
    outside: &Netlink,
) -> Result<Vec<Link>, DedicatedError> {
    let deadline = Instant::now() + RETURN_PATIENCE;
    loop {
        let links = outside.links().await.map_err(netlink(name))?;
        let is_there = links.iter().any(|link| link.name == name);
        if is_there || !is_recorded || Instant::now() > deadline {
            return Ok(links);
        }
        sleep(RETURN_POLL).await;
    }
}

async fn give_back(
    record: &Record,
    outside: &Netlink,
    host: &Namespace,
    inside: Option<&Netlink>,
) -> Result<bool, DedicatedError> {
    let failed = || netlink(&record.name);
    let mut configuration = record.configuration.clone();
    if let Some(inside) = inside
        && let Some(link) = inside
            .link(inner_name(&record.name))
            .await
            .map_err(failed())?
    {
        let found = inside.configuration(link.index).await.map_err(failed())?;
        if !found.global_addresses().is_empty() {
            configuration = configuration.following(&found);
        }
        let moved = inside.move_link(link.index, &record.name, host).await;
        moved.map_err(failed())?;
    }
    let link = outside.link(&record.name).await.map_err(failed())?;
    let Some(link) = link.filter(|link| link.mac == record.mac) else {
        warn!(
            device = record.name,
            "device of the ingress network namespace is gone"
        );
        return Ok(false);
    };
    let found = outside.configuration(link.index).await.map_err(failed())?;
    if found.global_addresses().is_empty() {
        outside.set_up(link.index, None).await.map_err(failed())?;
        let configured = outside.configure(link.index, &configuration, Place::AsRecorded);
        configured.await.map_err(failed())?;
    }
    info!(device = record.name, "device is back in the host");
    Ok(true)
}

/// The name of the device inside, where the gate has one of its own.
fn inner_name(name: &str) -> &str {
    if name == gate::INSIDE || name == LOOPBACK {
        "uplink0"
    } else {
        name
    }
}

/// The ingress netns takes packets for addresses that other devices of the host have: nobody may hear of them
/// by this device. What it has is on record, and nothing else is to come of routers' advertisements.
fn sysctls(name: &str) -> io::Result<()> {
    sysctl::set(&format!("ipv4/conf/{name}/arp_ignore"), "1")?;
    sysctl::set(&format!("ipv4/conf/{name}/arp_announce"), "2")?;
    sysctl::set(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
    // The host itself is a client by an address that is local here.
    sysctl::set(&format!("ipv4/conf/{name}/accept_local"), "1")?;
    if gate::has_ipv6() {
        sysctl::set(&format!("ipv6/conf/{name}/accept_ra"), "0")?;
    }
    Ok(())
}

fn written(store: &Store, record: &Record) -> Result<(), DedicatedError> {
    store.write(record).map_err(|source| DedicatedError::Io {
        device: record.name.clone(),
        attempt: "write down addresses and routes",
        source,
    })
}

fn removed(store: &Store, record: &Record) -> Result<(), DedicatedError> {
    store.remove().map_err(|source| DedicatedError::Io {
        device: record.name.clone(),
        attempt: "remove the record",
        source,
    })
}

/// How long a device takes to come back from a namespace that has ended, at most.
const RETURN_PATIENCE: Duration = Duration::from_secs(5);
const RETURN_POLL: Duration = Duration::from_millis(50);
/// Routes packets that leave from addresses of the device, in the ingress netns.
const TABLE: u32 = 8277;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_keeps_its_name_unless_the_gate_has_it() {
        assert_eq!(inner_name("eth1"), "eth1");
        assert_eq!(inner_name("eth0"), "uplink0");
    }
}
