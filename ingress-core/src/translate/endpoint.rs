//! Which addresses of EndpointSlices take the requests of a backend.

use std::net::SocketAddr;

use k8s_openapi::api::core::v1::Node;

use super::name;
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::Endpoint;
use crate::list::List;
use crate::object::{Address, EndpointSlice, PortRef, Readiness, ServicePort};

/// An address of a slice.
pub(super) struct Candidate {
    endpoint: Endpoint,
    readiness: Readiness,
    /// The zones that it is meant for, where it has hints.
    zones: Option<Box<[Box<str>]>>,
}

/// The endpoints of a backend, each list sorted and without duplicates.
pub(super) struct Chosen {
    pub(super) ready: Vec<Endpoint>,
    pub(super) draining: Vec<Endpoint>,
}

/// Reads one slice for one port of its Service.
pub(super) fn read_slice(
    slice: &EndpointSlice,
    port: &ServicePort,
    candidates: &mut Vec<Candidate>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut report = |field: String, reason, message| {
        let object = slice.meta.reference("EndpointSlice");
        diagnostics.push(Diagnostic {
            object,
            field,
            reason,
            message,
        });
    };
    if !matches!(&*slice.address_type, "IPv4" | "IPv6") {
        let kind = &slice.address_type;
        let message = format!("addresses of type `{kind}` are not supported, only IPv4 and IPv6");
        return report(
            "addressType".to_owned(),
            Reason::AddressTypeUnsupported,
            message,
        );
    }
    let Some(number) = slice_port(slice, port) else {
        return;
    };
    let Some(number) = u16::try_from(number).ok().filter(|number| *number != 0) else {
        let message = format!("port `{number}` is not in 1 to 65535");
        return report("ports".to_owned(), Reason::InvalidEndpoint, message);
    };
    for endpoint in &slice.endpoints {
        if endpoint.readiness == Readiness::Unready {
            continue;
        }
        match &endpoint.address {
            Address::Ip(ip) => candidates.push(Candidate {
                endpoint: Endpoint {
                    address: SocketAddr::new(*ip, number),
                },
                readiness: endpoint.readiness,
                zones: endpoint.zones.clone(),
            }),
            Address::Invalid { text, field } => report(
                field.to_string(),
                Reason::InvalidEndpoint,
                format!("`{text}` is no IP address"),
            ),
        }
    }
}

/// Picks the endpoints that requests go to.
///
/// A pod of a dual-stack Service has an address in each family: those of the Service's first
/// family are taken, the others only where that one has none. Hints count when every ready
/// endpoint has one and some are for our zone, as in kube-proxy.
pub(super) fn choose(
    candidates: Vec<Candidate>,
    families: &[Box<str>],
    zone: Option<&str>,
) -> Chosen {
    let candidates = of_one_family(candidates, families);
    let (mut ready, mut draining): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| candidate.readiness == Readiness::Ready);
    if let Some(zone) = zone {
        let is_ours = |candidate: &Candidate| {
            let zones = candidate.zones.as_deref().unwrap_or_default();
            zones.iter().any(|hint| **hint == *zone)
        };
        let has_hints = ready.iter().all(|candidate| candidate.zones.is_some());
        if has_hints && ready.iter().any(is_ours) {
            ready.retain(is_ours);
        }
    }
    let sorted = |candidates: &mut Vec<Candidate>| {
        let mut endpoints: Vec<_> = candidates.drain(..).map(|one| one.endpoint).collect();
        endpoints.sort_unstable();
        endpoints.dedup();
        endpoints
    };
    Chosen {
        ready: sorted(&mut ready),
        draining: sorted(&mut draining),
    }
}

fn of_one_family(candidates: Vec<Candidate>, families: &[Box<str>]) -> Vec<Candidate> {
    let [first, _] = families else {
        return candidates;
    };
    let is_first =
        |candidate: &Candidate| candidate.endpoint.address.is_ipv6() == (&**first == "IPv6");
    let has_ready = |wanted: bool| {
        let mut ready = candidates
            .iter()
            .filter(|one| one.readiness == Readiness::Ready);
        ready.any(|candidate| is_first(candidate) == wanted)
    };
    let wanted = has_ready(true) || !has_ready(false);
    let mut candidates = candidates;
    candidates.retain(|candidate| is_first(candidate) == wanted);
    candidates
}

/// The zone of a node, where that is asked for.
pub(super) fn zone<'a>(nodes: &'a List<Node>, node: Option<&str>) -> Option<&'a str> {
    let node = nodes
        .iter()
        .find(|object| Some(name(&object.metadata)) == node)?;
    let labels = node.metadata.labels.as_ref()?;
    labels.get(ZONE_LABEL).map(String::as_str)
}

/// The pods' port number in a slice. A slice without ports belongs to a headless Service
/// without ports or was written by hand; then a numeric `targetPort`, or the port itself, holds.
fn slice_port(slice: &EndpointSlice, port: &ServicePort) -> Option<i32> {
    let own_number = match &port.target {
        Some(PortRef::Number(number)) if *number != 0 => Some(*number),
        Some(PortRef::Name(_)) => None,
        Some(PortRef::Number(_)) | None => Some(port.port),
    };
    if slice.ports.is_empty() {
        return own_number;
    }
    let wanted = port.name.as_deref().unwrap_or_default();
    let transport = port.protocol.as_deref().unwrap_or("TCP");
    let mut ports = slice.ports.iter().filter(|port| port.is_of(transport));
    ports
        .find(|port| *port.name == *wanted)
        .and_then(|port| port.port.or(own_number))
}

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
