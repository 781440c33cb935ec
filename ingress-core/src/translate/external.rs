//! Services of type `ExternalName`: a DNS name instead of pods.
//!
//! The name is looked up elsewhere; its addresses come with the snapshot. A name that leads back
//! to this ingress would make requests go round and is not served, nor is one that leads to this
//! node itself: an external name must not open what only the node may reach.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::Options;
use crate::diagnostic::Reason;
use crate::ir::{Endpoint, Host, HostPattern, HostRules, ServicePort};
use crate::object::{PortRef, ServicePort as PortObject};
use crate::snapshot::Snapshot;

/// What is known of external names.
pub(super) struct External<'a> {
    is_allowed: bool,
    names: &'a BTreeMap<Arc<str>, Vec<IpAddr>>,
    hosts: &'a BTreeMap<HostPattern, HostRules>,
    /// Addresses of the nodes that this ingress runs on.
    own: HashSet<IpAddr>,
}

/// Why an external name is not served.
pub(super) enum Problem {
    SwitchedOff,
    NoPort(ServicePort),
    NoName(String),
    NoAddress(String),
    Forbidden(String, IpAddr),
    Loop(String),
}

impl Problem {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::SwitchedOff => Reason::ServiceTypeUnsupported,
            Self::NoPort(_) => Reason::ServicePortNotFound,
            Self::NoName(_) | Self::NoAddress(_) | Self::Forbidden(..) => {
                Reason::InvalidExternalName
            }
            Self::Loop(_) => Reason::ExternalNameLoop,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SwitchedOff => f.write_str("is of type ExternalName, which is switched off"),
            Self::NoPort(port) => write!(f, "has no TCP port `{port}`"),
            Self::NoName(name) => write!(f, "has the external name `{name}`, which is no DNS name"),
            Self::NoAddress(name) => {
                write!(f, "has the external name `{name}`, which has no address")
            }
            Self::Forbidden(name, address) => write!(
                f,
                "has the external name `{name}`, whose address `{address}` is of this machine only"
            ),
            Self::Loop(name) => write!(
                f,
                "has the external name `{name}`, which leads back to this ingress"
            ),
        }
    }
}

impl<'a> External<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        options: &Options,
        hosts: &'a BTreeMap<HostPattern, HostRules>,
    ) -> Self {
        Self {
            is_allowed: options.external_names,
            names: &snapshot.names,
            hosts,
            own: snapshot
                .pods
                .iter()
                .flat_map(|pod| host_addresses(pod))
                .collect(),
        }
    }

    /// The endpoints of a Service with this external name and these ports; none while the name is
    /// being looked up. Adds the name to those that are needed.
    pub(super) fn resolve(
        &self,
        text: &str,
        ports: &[PortObject],
        port: &ServicePort,
        needed: &mut BTreeSet<Arc<str>>,
    ) -> Result<Vec<Endpoint>, Problem> {
        if !self.is_allowed {
            return Err(Problem::SwitchedOff);
        }
        let port = port_of(ports, port).ok_or_else(|| Problem::NoPort(port.clone()))?;
        let is_address = text.parse::<IpAddr>().is_ok();
        let name = Host::parse(text).ok().filter(|_| !is_address);
        let name = name.ok_or_else(|| Problem::NoName(text.to_owned()))?;
        if self.is_host_of_ours(&name) {
            return Err(Problem::Loop(text.to_owned()));
        }
        needed.insert(name.as_str().into());
        let Some(addresses) = self.names.get(name.as_str()) else {
            return Ok(Vec::new());
        };
        if addresses.is_empty() {
            return Err(Problem::NoAddress(text.to_owned()));
        }
        if addresses.iter().any(|address| self.own.contains(address)) {
            return Err(Problem::Loop(text.to_owned()));
        }
        let mut endpoints = Vec::new();
        for address in addresses {
            if is_of_this_machine_only(*address) {
                return Err(Problem::Forbidden(text.to_owned(), *address));
            }
            endpoints.push(Endpoint {
                address: SocketAddr::new(*address, port),
            });
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        Ok(endpoints)
    }

    fn is_host_of_ours(&self, name: &Host) -> bool {
        // A wildcard covers names that are served elsewhere; where they lead is told by addresses.
        self.hosts.contains_key(&HostPattern::Exact(name.clone()))
    }
}

/// The port to connect to: the `targetPort` of the Service's port if it is a number, else the
/// port; a Service without ports takes any number (ingress-nginx does the same).
fn port_of(ports: &[PortObject], wanted: &ServicePort) -> Option<u16> {
    let is_wanted = |port: &&PortObject| match wanted {
        ServicePort::Number(number) => port.port == i32::from(*number),
        ServicePort::Name(name) => port.name.as_deref() == Some(&**name),
    };
    let number = match (ports.iter().find(is_wanted), wanted) {
        (Some(port), _) => match &port.target {
            Some(PortRef::Number(target)) if *target != 0 => *target,
            Some(PortRef::Number(_) | PortRef::Name(_)) | None => port.port,
        },
        (None, ServicePort::Number(number)) if ports.is_empty() => i32::from(*number),
        (None, ServicePort::Number(_) | ServicePort::Name(_)) => return None,
    };
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn host_addresses(pod: &Pod) -> impl Iterator<Item = IpAddr> {
    let status = pod.status.iter();
    let texts = status.flat_map(|status| {
        let more = status
            .host_ips
            .iter()
            .flatten()
            .map(|host| host.ip.as_str());
        status.host_ip.as_deref().into_iter().chain(more)
    });
    texts.filter_map(|text| text.parse().ok())
}

/// Loopback, link-local, unspecified and multicast addresses, and instance metadata of clouds.
fn is_of_this_machine_only(address: IpAddr) -> bool {
    if CLOUD_METADATA.contains(&address.to_canonical()) {
        return true;
    }
    match address.to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || address.is_multicast()
                || address.is_broadcast()
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_unspecified()
                || address.is_multicast()
        }
    }
}

/// Instance metadata outside of link-local networks: AWS over IPv6, Alibaba Cloud, Azure.
const CLOUD_METADATA: [IpAddr; 3] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];
