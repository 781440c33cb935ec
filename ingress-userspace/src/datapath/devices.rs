//! The devices that carry our traffic: uplinks, through which clients come, and the devices that
//! lead to endpoints. Keeps the programs attached to the right ones as devices come and go.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use ingress_common::guard::Mac;
use ingress_common::steering::{CLIENTS_AND_REPLIES, REPLIES, VLANS_MAX, Vlan};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::DatapathError;
use super::addresses::{FrontendAddress, Sources};
use super::attach::{self, Attachment, GuardMode, TcMode};
use super::dial::Reach;
use super::netlink::{DeviceAddress, Link, Netlink, NetlinkError, Route};
use super::object::{Object, ObjectError};
use super::settings::Settings;

/// A device and what is attached to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStatus {
    /// Device name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// The path that packets of our frontends take from it: `netns` or `host`.
    pub datapath: Cow<'static, str>,
    /// How steer is attached; none where it could not be.
    pub steer: Option<TcMode>,
    /// How the guard is attached; `off` on devices that are no uplink.
    pub guard: GuardMode,
    /// Why something better was not to be had.
    pub reason: Option<String>,
}

/// What a device is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Clients come through it.
    Uplink,
    /// It leads to endpoints.
    Endpoints,
    /// Clients come through it, and it is in the ingress netns as a whole.
    Dedicated,
}

/// What becomes of new connections from devices that lead to endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PodClients {
    /// The host judges them, and its listeners serve them.
    LeftToHost,
    /// They go the way of clients outside, past the host's policies.
    Steered,
}

/// All devices with programs on them.
pub struct Devices {
    /// Host side of the gate (ifindex), never to be attached to.
    pub gate: u32,
    /// Directory of the pinned links.
    pub pins: PathBuf,
    uplinks: Vec<String>,
    addresses: Vec<IpAddr>,
    guard: GuardMode,
    tc: TcMode,
    pod_clients: PodClients,
    vlans: BTreeMap<Vlan, u32>,
    answering: BTreeMap<u32, Mac>,
    attached: BTreeMap<u32, Attached>,
    /// Where upstream connections leave from.
    sources: Sources,
    /// The addresses of uplinks and of `lo`, with the name of the device.
    addressed: BTreeMap<IpAddr, String>,
    mtu: Option<u32>,
}

struct Attached {
    status: DeviceStatus,
    attachments: Vec<Attachment>,
}

impl Devices {
    /// No device yet.
    pub fn new(settings: &Settings, pins: PathBuf) -> Self {
        Self {
            gate: 0,
            pins,
            uplinks: settings.uplinks.clone(),
            addresses: settings.addresses.clone(),
            guard: settings.guard,
            tc: settings.tc,
            pod_clients: settings.pod_clients,
            vlans: BTreeMap::new(),
            answering: BTreeMap::new(),
            attached: BTreeMap::new(),
            sources: Sources::default(),
            addressed: BTreeMap::new(),
            mtu: None,
        }
    }

    /// The smallest MTU of the uplinks, in bytes: what the gate has to have too.
    pub async fn uplink_mtu(&self, netlink: &Netlink) -> Result<u32, NetlinkError> {
        let links = netlink.links().await?;
        let uplinks = self.choose_uplinks(&links, &netlink.default_route_devices().await?);
        Ok(smallest_mtu(&links, &uplinks).unwrap_or(MTU_DEFAULT))
    }

    /// The smallest MTU of the uplinks and of the devices that lead to endpoints, in bytes, as of the last
    /// refresh; none while there is no uplink. The host's stack would tell itself, and not the ingress netns,
    /// that a packet to an endpoint is too large for a device, such as one of VXLAN.
    pub fn mtu(&self) -> Option<u32> {
        self.mtu
    }

    /// Attaches to new devices, forgets those that are gone, and gives the addresses to steer
    /// with the reach of the endpoints.
    pub async fn refresh(
        &mut self,
        object: &mut Object,
        netlink: &Netlink,
        endpoints: &BTreeSet<IpAddr>,
    ) -> Result<(BTreeSet<IpAddr>, Reach), DatapathError> {
        let links = netlink.links().await?;
        let uplinks = self.choose_uplinks(&links, &netlink.default_route_devices().await?);
        let mut routes = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            routes.push((*endpoint, netlink.route(*endpoint).await));
        }
        let leads_to_endpoints: BTreeSet<u32> = routes
            .iter()
            .filter_map(|(_, route)| match route {
                Route::Device(index) if *index != self.gate => Some(*index),
                Route::Device(_) | Route::Local | Route::None => None,
            })
            .collect();
        for link in links.iter().filter(|link| link.is_ethernet) {
            if uplinks.contains(&link.index) {
                self.attach(object, link, Role::Uplink)?;
            } else if leads_to_endpoints.contains(&link.index) {
                self.attach(object, link, Role::Endpoints)?;
            }
        }
        self.forget_gone(&links);
        let carrying: BTreeSet<u32> = self.attached.keys().copied().collect();
        self.mtu = smallest_mtu(&links, &uplinks).map(|mtu| {
            let of_endpoints = smallest_mtu(&links, &carrying).unwrap_or(mtu);
            mtu.min(of_endpoints.max(MTU_MIN))
        });
        self.vlans = vlans(&links, &self.steered());
        self.answering = self.find_answering(&links);
        let addresses = self.own_addresses(netlink, &links, &uplinks).await?;
        let steered = self.steered();
        let is_direct =
            |route: &Route| matches!(route, Route::Device(i) if steered.contains_key(i));
        let direct = routes
            .iter()
            .filter(|(_, route)| is_direct(route))
            .map(|(ip, _)| *ip);
        let of_uplinks = addresses
            .iter()
            .filter(|address| uplinks.contains(&address.device));
        self.sources
            .follow(&of_uplinks.copied().collect::<Vec<_>>());
        let reach = Reach {
            direct: direct.collect(),
            source_v4: self.sources.v4,
            source_v6: self.sources.v6,
        };
        let name_of = |index: u32| links.iter().find(|link| link.index == index);
        self.addressed = addresses
            .iter()
            .filter_map(|address| Some((address.ip, name_of(address.device)?.name.clone())))
            .collect();
        let of_devices = self.addressed.keys().copied();
        let frontends = of_devices.chain(self.addresses.iter().copied()).collect();
        Ok((frontends, reach))
    }

    /// The addresses that clients reach this node by, and where each is from.
    pub fn frontends(&self) -> Vec<FrontendAddress> {
        let of_device = |(address, device): (&IpAddr, &String)| FrontendAddress {
            address: *address,
            given_by: format!("device {device}"),
        };
        let of_flags = self.addresses.iter().map(|address| FrontendAddress {
            address: *address,
            given_by: "--frontend-address".to_owned(),
        });
        self.addressed
            .iter()
            .map(of_device)
            .chain(of_flags)
            .collect()
    }

    /// Devices (ifindex) whose replies come back through steer, with what it takes from each.
    pub fn steered(&self) -> BTreeMap<u32, u32> {
        let steered = self
            .attached
            .iter()
            .filter(|(_, device)| device.status.steer.is_some());
        let taken = |device: &Attached| match (device.status.role, self.pod_clients) {
            (Role::Uplink | Role::Dedicated, _) | (Role::Endpoints, PodClients::Steered) => {
                CLIENTS_AND_REPLIES
            }
            (Role::Endpoints, PodClients::LeftToHost) => REPLIES,
        };
        steered
            .map(|(index, device)| (*index, taken(device)))
            .collect()
    }

    /// VLANs on steered devices, with the devices (ifindex) that the host takes their frames on.
    pub fn vlans(&self) -> &BTreeMap<Vlan, u32> {
        &self.vlans
    }

    /// Uplinks (ifindex) on which the guard may answer SYNs, with their link-layer addresses.
    pub fn answering(&self) -> &BTreeMap<u32, Mac> {
        &self.answering
    }

    /// Those with a guard and without VLANs: a NIC may have taken a tag off before the guard sees the
    /// frame, and the answer would lack it.
    fn find_answering(&self, links: &[Link]) -> BTreeMap<u32, Mac> {
        let guarded = links.iter().filter(|link| {
            let attached = self.attached.get(&link.index);
            attached.is_some_and(|device| device.status.guard != GuardMode::Off)
        });
        let plain = guarded.filter(|link| {
            let mut parents = self.vlans.keys().map(|vlan| vlan.parent);
            parents.all(|parent| parent != link.index)
        });
        let addressed = plain.filter_map(|link| {
            let mac = Mac::try_from(link.mac.as_slice()).ok()?;
            Some((link.index, mac))
        });
        addressed.collect()
    }

    /// Everything that is attached to devices.
    pub fn attachments(&self) -> impl Iterator<Item = &Attachment> {
        self.attached
            .values()
            .flat_map(|device| &device.attachments)
    }

    /// One line for each device.
    pub fn status(&self) -> Vec<DeviceStatus> {
        self.attached
            .values()
            .map(|device| device.status.clone())
            .collect()
    }

    /// Detaches from all devices.
    pub fn detach_all(&mut self) {
        for (_, device) in std::mem::take(&mut self.attached) {
            for attachment in device.attachments {
                attachment.detach();
            }
        }
    }

    fn choose_uplinks(&self, links: &[Link], default_routes: &BTreeSet<u32>) -> BTreeSet<u32> {
        let is_uplink = |link: &&Link| {
            if self.uplinks.is_empty() {
                link.index != self.gate && default_routes.contains(&link.index)
            } else {
                self.uplinks.contains(&link.name)
            }
        };
        links
            .iter()
            .filter(is_uplink)
            .map(|link| link.index)
            .collect()
    }

    fn attach(&mut self, object: &mut Object, link: &Link, role: Role) -> Result<(), ObjectError> {
        let known = self.attached.get(&link.index);
        if known.is_some_and(|known| known.status.role == role) {
            return Ok(());
        }
        let mut attachments = Vec::new();
        let (guard, mut reason) = match role {
            Role::Uplink | Role::Dedicated => {
                let (attachment, mode, reason) =
                    attach::xdp(object.guard()?, link, self.guard, &self.pins);
                attachments.extend(attachment);
                (mode, reason)
            }
            Role::Endpoints => (GuardMode::Off, None),
        };
        let steer = match attach::tc(object.steer()?, "steer", link, self.tc, &self.pins) {
            Ok((attachment, mode)) => {
                attachments.push(attachment);
                Some(mode)
            }
            Err(error) => {
                warn!(device = link.name, %error, "device is not steered; the host serves its clients");
                reason = Some(error.to_string());
                None
            }
        };
        let datapath = match (&steer, role, self.pod_clients) {
            (Some(_), Role::Uplink | Role::Dedicated, _)
            | (Some(_), Role::Endpoints, PodClients::Steered) => "netns",
            (Some(_), Role::Endpoints, PodClients::LeftToHost) | (None, _, _) => "host",
        };
        let name = link.name.clone();
        let status = DeviceStatus {
            name,
            role,
            datapath: datapath.into(),
            steer,
            guard,
            reason,
        };
        info!(
            device = link.name,
            ?role,
            datapath,
            ?steer,
            ?guard,
            reason = status.reason.as_deref().unwrap_or("-"),
            "device attached"
        );
        self.attached.insert(
            link.index,
            Attached {
                status,
                attachments,
            },
        );
        Ok(())
    }

    fn forget_gone(&mut self, links: &[Link]) {
        let present: BTreeSet<u32> = links.iter().map(|link| link.index).collect();
        self.attached.retain(|index, device| {
            let stays = present.contains(index);
            if !stays {
                info!(device = device.status.name, "device no longer exists");
            }
            stays
        });
    }

    /// Addresses of the uplinks and of `lo`. Other devices may hold addresses that only look like ours:
    /// kube-proxy in IPVS mode puts every `ClusterIP` on one.
    async fn own_addresses(
        &self,
        netlink: &Netlink,
        links: &[Link],
        uplinks: &BTreeSet<u32>,
    ) -> Result<Vec<DeviceAddress>, NetlinkError> {
        let loopback = links
            .iter()
            .find(|link| link.name == "lo")
            .map(|link| link.index);
        let addresses = netlink.addresses().await?.into_iter();
        let ours = addresses.filter(|DeviceAddress { device, ip, .. }| {
            uplinks.contains(device) || Some(*device) == loopback && !ip.is_loopback()
        });
        Ok(ours.collect())
    }
}

fn smallest_mtu(links: &[Link], uplinks: &BTreeSet<u32>) -> Option<u32> {
    let uplinks = links.iter().filter(|link| uplinks.contains(&link.index));
    uplinks.map(|link| link.mtu).min()
}

/// VLAN devices on these devices, and on VLAN devices on them; no more than there is room for.
fn vlans(links: &[Link], on: &BTreeMap<u32, u32>) -> BTreeMap<Vlan, u32> {
    let addressed = |parents: &BTreeSet<u32>| -> Vec<(Vlan, u32)> {
        let vlans = links
            .iter()
            .filter_map(|link| Some((link.vlan?, link.index)));
        vlans
            .filter(|(vlan, _)| parents.contains(&vlan.parent))
            .collect()
    };
    let outer = addressed(&on.keys().copied().collect());
    let inner = addressed(&outer.iter().map(|(_, index)| *index).collect());
    outer
        .into_iter()
        .chain(inner)
        .take(VLANS_MAX as usize)
        .collect()
}

/// The kernel has no IPv6 on a device with less (RFC 8200, section 5).
const MTU_MIN: u32 = 1280;
/// Ethernet's, where there is no uplink yet.
const MTU_DEFAULT: u32 = 1500;

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, vlan: Option<(u32, u16)>) -> Link {
        Link {
            index,
            name: String::new(),
            mac: Vec::new(),
            mtu: 1500,
            peer_netns: None,
            is_ethernet: true,
            is_netkit: false,
            is_immutable: false,
            controller: None,
            vlan: vlan.map(|(parent, id)| Vlan {
                parent,
                ether_type: 0x8100,
                id,
            }),
        }
    }

    #[test]
    fn vlans_of_steered_devices_are_known_two_tags_deep() {
        let links = [
            link(2, None),
            link(3, None),
            link(4, Some((2, 7))),
            link(5, Some((4, 8))),
            link(6, Some((3, 7))),
        ];
        let vlans = vlans(&links, &BTreeMap::from([(2, CLIENTS_AND_REPLIES)]));
        let known: Vec<_> = vlans
            .into_iter()
            .map(|(vlan, device)| (vlan.parent, vlan.id, device))
            .collect();
        assert_eq!(known, [(2, 7, 4), (4, 8, 5)]);
    }
}
