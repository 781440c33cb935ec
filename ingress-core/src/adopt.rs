//! Which addresses of load balancers become frontends of this node.
//!
//! `MetalLB`, Cilium and the balancers of clouds write the addresses that they announce into
//! `status.loadBalancer` of a Service and put them on no device. Packets come to a node with such an
//! address as their destination; adopted, they are steered like those to the node's own addresses.
//!
//! Invariant: no address is adopted that belongs to a node, a pod or a Service of the cluster, whoever
//! wrote it there: its packets would be taken from whom they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::ObjectRef;
use crate::object::{Address, PortRef, Service, ServicePort};
use crate::snapshot::Snapshot;

/// The Services whose addresses are adopted, and the ports that the node serves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Namespace and name of each Service.
    pub services: BTreeSet<(String, String)>,
    /// TCP ports that workers listen on.
    pub tcp: BTreeSet<u16>,
    /// UDP ports of UDP services, which the host's sockets serve.
    pub udp: BTreeSet<u16>,
    /// The numbers of the target ports that are named `http` and `https`.
    pub http_and_https: [u16; 2],
}

/// The adopted addresses and ports, and the reasons why others are not adopted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adoption {
    /// Destinations that become frontends, with the Service that has each; TCP.
    pub frontends: BTreeMap<SocketAddr, ObjectRef>,
    /// One for each address and port that is not adopted, with the reason.
    pub diagnostics: Vec<Diagnostic>,
}

/// Decides which addresses and ports of the wanted Services become frontends.
pub fn adopt(snapshot: &Snapshot, wanted: &Wanted) -> Adoption {
    let mut adoption = Adoption::default();
    if wanted.services.is_empty() {
        return adoption;
    }
    let mut missing = wanted.services.clone();
    let mut candidates = Vec::new();
    for service in &snapshot.services {
        let key = (
            service.meta.namespace.to_string(),
            service.meta.name.to_string(),
        );
        if missing.remove(&key) {
            let ports = adoption.ports(service, wanted);
            candidates.extend(
                adoption
                    .addresses(service)
                    .map(|found| (found, ports.clone())),
            );
        }
    }
    for (namespace, name) in missing {
        let object = ObjectRef {
            kind: SERVICE,
            namespace: namespace.into(),
            name: name.into(),
        };
        let message = "the Service that `--adopt-service` names does not exist";
        adoption.refuse(object, "metadata.name", Reason::ServiceNotFound, message);
    }
    let addresses = candidates.iter().map(|(found, _)| found.address).collect();
    let owners = owners(snapshot, &addresses);
    for (found, ports) in candidates {
        match owners.get(&found.address) {
            Some(owner) => {
                let message = format!("`{}` is {owner}, so it is not adopted", found.address);
                adoption.refuse(
                    found.service,
                    &found.field,
                    Reason::AddressNotAdopted,
                    message,
                );
            }
            None => adoption.add(&found, &ports),
        }
    }
    adoption.diagnostics.sort_unstable();
    adoption
}

/// An address in the status of a Service.
struct Found {
    service: ObjectRef,
    field: String,
    address: IpAddr,
}

impl Adoption {
    /// The ports of a Service that are served here under the same number.
    fn ports(&mut self, service: &Service, wanted: &Wanted) -> BTreeSet<u16> {
        let mut ports = BTreeSet::new();
        for (index, port) in service.ports.iter().enumerate() {
            match served(port, wanted) {
                Ok(served) => ports.extend(served),
                Err(message) => self.refuse(
                    service.meta.reference(SERVICE),
                    &format!("spec.ports[{index}]"),
                    Reason::PortNotServed,
                    message,
                ),
            }
        }
        ports
    }

    /// The addresses of a Service that could be adopted.
    fn addresses(&mut self, service: &Service) -> std::vec::IntoIter<Found> {
        let mut addresses = Vec::new();
        for (index, text) in service.destinations.iter().enumerate() {
            let field = format!("status.loadBalancer.ingress[{index}].ip");
            let object = service.meta.reference(SERVICE);
            // `::ffff:192.0.2.1` would be another spelling of an address that is refused.
            let address = text.parse().map(|address: IpAddr| address.to_canonical());
            let message = match address {
                Ok(_) if addresses.len() >= ADDRESSES_MAX => {
                    format!("a Service has at most {ADDRESSES_MAX} addresses that are adopted")
                }
                Ok(address) if is_unicast(address) => {
                    addresses.push(Found {
                        service: object,
                        field,
                        address,
                    });
                    continue;
                }
                Ok(_) => format!("`{text}` is no address that clients could reach"),
                Err(_) => format!("`{text}` is no IP address"),
            };
            self.refuse(object, &field, Reason::AddressNotAdopted, message);
        }
        addresses.into_iter()
    }

    fn add(&mut self, found: &Found, ports: &BTreeSet<u16>) {
        if self.frontends.len() + ports.len() > FRONTENDS_MAX {
            let message = format!("no more than {FRONTENDS_MAX} addresses with a port are adopted");
            let (object, reason) = (found.service.clone(), Reason::AddressNotAdopted);
            return self.refuse(object, &found.field, reason, message);
        }
        for port in ports {
            let frontend = SocketAddr::new(found.address, *port);
            // Two Services may share an address, and not a port of it.
            self.frontends
                .entry(frontend)
                .or_insert_with(|| found.service.clone());
        }
    }

    fn refuse(
        &mut self,
        object: ObjectRef,
        field: &str,
        reason: Reason,
        message: impl Into<String>,
    ) {
        self.diagnostics.push(Diagnostic {
            object,
            field: field.to_owned(),
            reason,
            message: message.into(),
        });
    }
}

/// The port that packets to this port of a Service are steered to: none for UDP, which the host serves.
fn served(port: &ServicePort, wanted: &Wanted) -> Result<Option<u16>, String> {
    let number = u16::try_from(port.port).ok();
    let target = match &port.target {
        None => number,
        Some(PortRef::Number(target)) => u16::try_from(*target).ok(),
        Some(PortRef::Name(name)) => match &**name {
            "http" => Some(wanted.http_and_https[0]),
            "https" => Some(wanted.http_and_https[1]),
            _ => None,
        },
    };
    let listening = if port.is_of("TCP") {
        &wanted.tcp
    } else if port.is_of("UDP") {
        &wanted.udp
    } else {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        return Err(format!("{protocol} is not served here"));
    };
    let Some(target) = target.filter(|target| listening.contains(target)) else {
        let number = port.port;
        return Err(format!(
            "port {number} leads to a target port that is not served here"
        ));
    };
    if port.is_of("UDP") {
        return Ok(None);
    }
    if number == Some(target) {
        return Ok(number);
    }
    Err(format!(
        "port {} leads to target port {target}: packets are steered without translation, so this port \
         is left to kube-proxy; listen on the port of the Service (`--http-port`, `--https-port`)",
        port.port
    ))
}

/// Whether clients on other machines could send packets there.
fn is_unicast(address: IpAddr) -> bool {
    let is_of_this_link = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(is_of_this_link
        || address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast())
}

/// The owner of an address in the cluster.
enum Owner {
    Node(String),
    PodNetwork(IpNet),
    Pod,
    Service(ObjectRef),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "an address of node `{name}`"),
            Self::PodNetwork(network) => write!(f, "in the pod network {network}"),
            Self::Pod => write!(f, "the address of an endpoint"),
            Self::Service(service) => write!(f, "the ClusterIP of {service}"),
        }
    }
}

/// Those of these addresses that belong to the cluster already.
fn owners(snapshot: &Snapshot, addresses: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, Owner> {
    let mut owners = BTreeMap::new();
    if addresses.is_empty() {
        return owners;
    }
    for slice in &snapshot.endpoint_slices {
        for endpoint in &slice.endpoints {
            if let Address::Ip(ip) = &endpoint.address
                && addresses.contains(ip)
            {
                owners.insert(*ip, Owner::Pod);
            }
        }
    }
    for service in &snapshot.services {
        for ip in service
            .cluster_ips
            .iter()
            .filter(|ip| addresses.contains(ip))
        {
            owners.insert(*ip, Owner::Service(service.meta.reference(SERVICE)));
        }
    }
    for node in &snapshot.nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let spec = node.spec.as_ref();
        let first = spec.and_then(|spec| spec.pod_cidr.as_ref());
        let all = spec.and_then(|spec| spec.pod_cidrs.as_ref());
        for text in all.into_iter().flatten().chain(first) {
            let Ok(network) = text.parse::<IpNet>() else {
                continue;
            };
            for ip in addresses.iter().filter(|ip| network.contains(*ip)) {
                owners.insert(*ip, Owner::PodNetwork(network));
            }
        }
        let status = node.status.as_ref();
        let own = status.and_then(|status| status.addresses.as_ref());
        for own in own.into_iter().flatten() {
            let ip = own.address.parse().ok();
            if let Some(ip) = ip.filter(|ip| addresses.contains(ip)) {
                owners.insert(ip, Owner::Node(name.to_owned()));
            }
        }
    }
    owners
}

const SERVICE: &str = "Service";
const ADDRESSES_MAX: usize = 32;
/// Half of the kernel's table of frontends: the other half is for the node's own addresses.
const FRONTENDS_MAX: usize = 2048;

#[cfg(test)]
mod tests;
