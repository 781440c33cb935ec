//! A Service.

use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use serde::{Deserialize, Serialize};

use super::{Meta, PortRef, boxed};

/// A Service, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name and version.
    pub meta: Meta,
    /// The name of a Service of type `ExternalName`; `None` for every other type.
    pub external_name: Option<Box<str>>,
    /// `spec.ports`.
    pub ports: Box<[ServicePort]>,
    /// `spec.clusterIPs`: the Service's own addresses, the first one first; none where it is headless.
    pub cluster_ips: Box<[IpAddr]>,
    /// `spec.ipFamilies`, the first one first.
    pub ip_families: Box<[Box<str>]>,
    /// Addresses and host names of its load balancer, and external addresses.
    pub published: Box<[Box<str>]>,
    /// Addresses of its load balancer that packets come to the nodes with: no host names, and none whose
    /// `ipMode` is `Proxy`.
    #[serde(default)]
    pub destinations: Box<[Box<str>]>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicePort {
    /// May be missing where there is only one.
    pub name: Option<Box<str>>,
    /// As found: it may be no port number.
    pub port: i32,
    /// The pods' port.
    pub target: Option<PortRef>,
    /// What is spoken on it.
    pub app_protocol: Option<Box<str>>,
    /// `TCP`, `UDP` or `SCTP`; TCP where there is none.
    pub protocol: Option<Box<str>>,
}

impl ServicePort {
    /// Whether it is a port of this transport protocol, `TCP` or `UDP`.
    pub fn is_of(&self, protocol: &str) -> bool {
        self.protocol.as_deref().unwrap_or("TCP") == protocol
    }
}

impl From<v1::Service> for Service {
    fn from(service: v1::Service) -> Self {
        let v1::Service {
            metadata,
            spec,
            status,
        } = service;
        let spec = spec.unwrap_or_default();
        let balancer = status.and_then(|status| status.load_balancer);
        let assigned = balancer.and_then(|balancer| balancer.ingress);
        let assigned = assigned.unwrap_or_default();
        let is_destination =
            |ingress: &&v1::LoadBalancerIngress| ingress.ip_mode.as_deref() != Some("Proxy");
        let destinations = assigned.iter().filter(is_destination);
        let destinations = destinations.filter_map(|ingress| Some(ingress.ip.as_deref()?.into()));
        let destinations = destinations.collect();
        let assigned = assigned
            .into_iter()
            .filter_map(|ingress| ingress.ip.or(ingress.hostname));
        let external = spec.external_ips.into_iter().flatten();
        let is_external = spec.type_.as_deref() == Some("ExternalName");
        let external_name = spec.external_name.unwrap_or_default().into();
        let first = spec.cluster_ip.into_iter();
        let mut cluster_ips: Vec<IpAddr> = Vec::new();
        for text in spec.cluster_ips.into_iter().flatten().chain(first) {
            let address = text.parse().ok();
            cluster_ips.extend(address.filter(|address| !cluster_ips.contains(address)));
        }
        Self {
            cluster_ips: cluster_ips.into(),
            meta: metadata.into(),
            external_name: is_external.then_some(external_name),
            ports: boxed(spec.ports),
            ip_families: boxed(spec.ip_families),
            published: assigned.chain(external).map(Into::into).collect(),
            destinations,
        }
    }
}

impl From<v1::ServicePort> for ServicePort {
    fn from(port: v1::ServicePort) -> Self {
        Self {
            name: port.name.map(Into::into),
            port: port.port,
            target: port.target_port.map(Into::into),
            app_protocol: port.app_protocol.map(Into::into),
            protocol: port.protocol.filter(|name| name != "TCP").map(Into::into),
        }
    }
}
