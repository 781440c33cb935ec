//! Which addresses of EndpointSlices take the requests of a backend.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, ServicePort as KubernetesPort};
use k8s_openapi::api::discovery::v1::{EndpointConditions, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{name, reference};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::Endpoint;

/// An address of a slice.
pub(super) struct Candidate {
    endpoint: Endpoint,
    state: State,
    /// The zones that it is meant for, where it has hints.
    zones: Option<Vec<String>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ready,
    /// Serves still, and will be gone.
    Draining,
}

/// The endpoints of a backend, each list sorted and without duplicates.
pub(super) struct Chosen {
    pub(super) ready: Vec<Endpoint>,
    pub(super) draining: Vec<Endpoint>,
}

/// Reads one slice for one port of its Service.
pub(super) fn read_slice(
    slice: &EndpointSlice,
    port: &KubernetesPort,
    candidates: &mut Vec<Candidate>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut report = |field: String, reason, message| {
        let object = reference("EndpointSlice", &slice.metadata);
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
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        let Some(state) = state_of(endpoint.conditions.as_ref()) else {
            continue;
        };
        let hints = endpoint.hints.as_ref();
        let zones = hints.and_then(|hints| hints.for_zones.as_ref());
        for (address_index, address) in endpoint.addresses.iter().enumerate() {
            match address.parse::<IpAddr>() {
                Ok(ip) => candidates.push(Candidate {
                    endpoint: Endpoint {
                        address: SocketAddr::new(ip, number),
                    },
                    state,
                    zones: zones.map(|zones| zones.iter().map(|zone| zone.name.clone()).collect()),
                }),
                Err(_) => report(
                    format!("endpoints[{index}].addresses[{address_index}]"),
                    Reason::InvalidEndpoint,
                    format!("`{address}` is no IP address"),
                ),
            }
        }
    }
}

/// `None` for an endpoint that takes no requests. Unknown counts as ready, and readiness as
/// serving (EndpointConditions of discovery.k8s.io/v1).
fn state_of(conditions: Option<&EndpointConditions>) -> Option<State> {
    let Some(conditions) = conditions else {
        return Some(State::Ready);
    };
    let is_ready = conditions.ready.unwrap_or(true);
    let is_serving = conditions.serving.unwrap_or(is_ready);
    let is_terminating = conditions.terminating.unwrap_or(false);
    match (is_ready, is_serving && is_terminating) {
        (true, _) => Some(State::Ready),
        (false, true) => Some(State::Draining),
        (false, false) => None,
    }
}

/// Picks the endpoints that requests go to.
///
/// A pod of a dual-stack Service has an address in each family: those of the Service's first
/// family are taken, the others only where that one has none. Hints count when every ready
/// endpoint has one and some are for our zone, as in kube-proxy.
pub(super) fn choose(
    candidates: Vec<Candidate>,
    families: &[String],
    zone: Option<&str>,
) -> Chosen {
    let candidates = of_one_family(candidates, families);
    let (mut ready, mut draining): (Vec<_>, Vec<_>) = candidates
        .into_iter()
        .partition(|candidate| candidate.state == State::Ready);
    if let Some(zone) = zone {
        let is_ours = |candidate: &Candidate| {
            let zones = candidate.zones.as_deref().unwrap_or_default();
            zones.iter().any(|hint| hint == zone)
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

fn of_one_family(candidates: Vec<Candidate>, families: &[String]) -> Vec<Candidate> {
    let [first, _] = families else {
        return candidates;
    };
    let is_first =
        |candidate: &Candidate| candidate.endpoint.address.is_ipv6() == (first == "IPv6");
    let has_ready = |wanted: bool| {
        let mut ready = candidates.iter().filter(|one| one.state == State::Ready);
        ready.any(|candidate| is_first(candidate) == wanted)
    };
    let wanted = has_ready(true) || !has_ready(false);
    let mut candidates = candidates;
    candidates.retain(|candidate| is_first(candidate) == wanted);
    candidates
}

/// The zone of a node, where that is asked for.
pub(super) fn zone<'a>(nodes: &'a [Arc<Node>], node: Option<&str>) -> Option<&'a str> {
    let node = nodes
        .iter()
        .find(|object| Some(name(&object.metadata)) == node)?;
    let labels = node.metadata.labels.as_ref()?;
    labels.get(ZONE_LABEL).map(String::as_str)
}

/// The pods' port number in a slice. A slice without ports belongs to a headless Service
/// without ports or was written by hand; then a numeric `targetPort`, or the port itself, holds.
fn slice_port(slice: &EndpointSlice, port: &KubernetesPort) -> Option<i32> {
    let own_number = match &port.target_port {
        Some(IntOrString::Int(number)) if *number != 0 => Some(*number),
        Some(IntOrString::String(_)) => None,
        Some(IntOrString::Int(_)) | None => Some(port.port),
    };
    let ports = slice.ports.as_deref().unwrap_or_default();
    if ports.is_empty() {
        return own_number;
    }
    let wanted = port.name.as_deref().unwrap_or_default();
    let is_tcp = |protocol: &str| protocol == "TCP";
    ports
        .iter()
        .filter(|port| port.protocol.as_deref().is_none_or(is_tcp))
        .find(|port| port.name.as_deref().unwrap_or_default() == wanted)
        .and_then(|port| port.port.or(own_number))
}

const ZONE_LABEL: &str = "topology.kubernetes.io/zone";
