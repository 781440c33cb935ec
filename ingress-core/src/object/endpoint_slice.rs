//! An EndpointSlice.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1;
use serde::{Deserialize, Serialize};

use super::{Meta, boxed};

/// An EndpointSlice, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// Its name and version.
    pub meta: Meta,
    /// The Service that it is of, from its label `kubernetes.io/service-name`.
    pub service: Option<Box<str>>,
    /// `IPv4`, `IPv6`, or something else.
    pub address_type: Box<str>,
    /// `ports`.
    pub ports: Box<[SlicePort]>,
    /// One for each address of each endpoint.
    pub endpoints: Box<[Endpoint]>,
}

/// A port of the pods.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// Empty where there is none.
    pub name: Box<str>,
    /// As found: it may be no port number.
    pub port: Option<i32>,
    /// `TCP`, `UDP` or `SCTP`; TCP where there is none.
    pub protocol: Option<Box<str>>,
}

impl SlicePort {
    /// Whether it is a port of this transport protocol, `TCP` or `UDP`.
    pub fn is_of(&self, protocol: &str) -> bool {
        self.protocol.as_deref().unwrap_or("TCP") == protocol
    }
}

/// An address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// The address.
    pub address: Address,
    /// Whether the endpoint takes requests.
    pub readiness: Readiness,
    /// The zones that it is meant for, where it has hints.
    pub zones: Option<Box<[Box<str>]>>,
}

/// An address of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Address {
    /// An IP address.
    Ip(IpAddr),
    /// Something else.
    Invalid {
        /// As found.
        text: Box<str>,
        /// Its place, such as `endpoints[0].addresses[1]`.
        field: Box<str>,
    },
}

/// Whether an endpoint takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It serves still, and will be gone.
    Draining,
    /// It does not.
    Unready,
}

impl From<Option<v1::EndpointConditions>> for Readiness {
    /// Unknown counts as ready, and readiness as serving (EndpointConditions of
    /// discovery.k8s.io/v1).
    fn from(conditions: Option<v1::EndpointConditions>) -> Self {
        let conditions = conditions.unwrap_or_default();
        let is_ready = conditions.ready.unwrap_or(true);
        let is_serving = conditions.serving.unwrap_or(is_ready);
        let is_terminating = conditions.terminating.unwrap_or(false);
        match (is_ready, is_serving && is_terminating) {
            (true, _) => Self::Ready,
            (false, true) => Self::Draining,
            (false, false) => Self::Unready,
        }
    }
}

impl From<v1::EndpointSlice> for EndpointSlice {
    fn from(slice: v1::EndpointSlice) -> Self {
        let v1::EndpointSlice {
            mut metadata,
            address_type,
            ports,
            endpoints,
        } = slice;
        let labels = metadata.labels.take();
        let service = labels.and_then(|mut labels| labels.remove(SERVICE_LABEL));
        let endpoints = endpoints.into_iter().enumerate();
        Self {
            meta: metadata.into(),
            service: service.map(Into::into),
            address_type: address_type.into(),
            ports: boxed(ports),
            endpoints: endpoints
                .flat_map(|(index, endpoint)| addresses(index, endpoint))
                .collect(),
        }
    }
}

fn addresses(index: usize, endpoint: v1::Endpoint) -> impl Iterator<Item = Endpoint> {
    let readiness = endpoint.conditions.into();
    let zones = endpoint.hints.and_then(|hints| hints.for_zones);
    let zones = zones.map(|zones| zones.into_iter().map(|zone| zone.name.into()).collect());
    let addresses = endpoint.addresses.into_iter().enumerate();
    addresses.map(move |(position, text)| Endpoint {
        address: text.parse().map_or_else(
            |_| Address::Invalid {
                field: format!("endpoints[{index}].addresses[{position}]").into(),
                text: text.as_str().into(),
            },
            Address::Ip,
        ),
        readiness,
        zones: Option::<Box<[Box<str>]>>::clone(&zones),
    })
}

impl From<v1::EndpointPort> for SlicePort {
    fn from(port: v1::EndpointPort) -> Self {
        Self {
            name: port.name.unwrap_or_default().into(),
            port: port.port,
            protocol: port.protocol.filter(|name| name != "TCP").map(Into::into),
        }
    }
}

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
