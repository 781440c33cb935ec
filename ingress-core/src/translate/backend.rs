//! Step 4a: the endpoints behind the backends that served rules name.
//!
//! A backend port names a port of the Service; the Service's port name names a port of its
//! EndpointSlices, which already carry the pods' port numbers. So a `targetPort`, be it a number,
//! a name or different in each pod, needs no lookup here.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Service, ServicePort as KubernetesPort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::conflict::BackendUse;
use super::{name, namespace, reference};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Backend, BackendKey, Endpoint, ObjectRef, ServicePort, UpstreamProtocol};
use crate::snapshot::Snapshot;

/// Resolves every backend that a served rule names; each backend once, each mention of a broken
/// one reported.
pub(super) fn resolve(
    snapshot: &Snapshot,
    uses: &[BackendUse<'_>],
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<BackendKey, Arc<Backend>> {
    let index = Index::new(snapshot);
    let mut resolved: HashMap<&BackendKey, Resolved> = HashMap::with_capacity(uses.len());
    for BackendUse { key, place } in uses {
        let resolved = resolved
            .entry(key)
            .or_insert_with(|| index.resolve(key, diagnostics));
        if let Some(problem) = &resolved.problem {
            diagnostics.push(problem.diagnostic(key, place.as_ref()));
        }
    }
    resolved
        .into_values()
        .map(|one| (one.backend.key.clone(), Arc::new(one.backend)))
        .collect()
}

struct Resolved {
    backend: Backend,
    problem: Option<Problem>,
}

/// What is wrong with a backend, to be told to everyone who names it.
enum Problem {
    NoService,
    NoPort,
    ExternalName,
    ByTargetPort(i32),
}

impl Problem {
    fn diagnostic(
        &self,
        key: &BackendKey,
        place: Option<&(&ObjectRef, super::claim::RuleField)>,
    ) -> Diagnostic {
        let BackendKey {
            namespace,
            service,
            port,
        } = key;
        let (reason, part, message) = match self {
            Self::NoService => (
                Reason::ServiceNotFound,
                "service.name",
                format!("Service `{namespace}/{service}` does not exist; answered with 503"),
            ),
            Self::NoPort => (
                Reason::ServicePortNotFound,
                "service.port",
                format!(
                    "Service `{namespace}/{service}` has no TCP port `{port}`; answered with 503"
                ),
            ),
            Self::ExternalName => (
                Reason::ServiceTypeUnsupported,
                "service.name",
                format!(
                    "Service `{namespace}/{service}` is of type ExternalName, which is not \
                     supported; answered with 503"
                ),
            ),
            Self::ByTargetPort(number) => (
                Reason::ServicePortByTargetPort,
                "service.port",
                format!(
                    "Service `{namespace}/{service}` has no port `{port}`, which is the \
                     `targetPort` of its port `{number}`; name that one"
                ),
            ),
        };
        let (object, field) = match place {
            Some((ingress, field)) => ((*ingress).clone(), format!("{}.{part}", field.backend())),
            None => (
                ObjectRef {
                    kind: "Service",
                    namespace: Arc::clone(namespace),
                    name: Arc::clone(service),
                },
                "spec".to_owned(),
            ),
        };
        Diagnostic {
            object,
            field,
            reason,
            message,
        }
    }
}

/// Services and slices by the namespace and name of the Service.
struct Index<'a> {
    services: HashMap<(&'a str, &'a str), &'a Service>,
    slices: HashMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
}

impl<'a> Index<'a> {
    fn new(snapshot: &'a Snapshot) -> Self {
        let services = (snapshot.services.iter())
            .map(|service| {
                (
                    (namespace(&service.metadata), name(&service.metadata)),
                    &**service,
                )
            })
            .collect();
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in &snapshot.endpoint_slices {
            let labels = slice.metadata.labels.as_ref();
            if let Some(service) = labels.and_then(|labels| labels.get(SERVICE_LABEL)) {
                let key = (namespace(&slice.metadata), service.as_str());
                slices.entry(key).or_default().push(&**slice);
            }
        }
        Self { services, slices }
    }

    fn resolve(&self, key: &BackendKey, diagnostics: &mut Vec<Diagnostic>) -> Resolved {
        let name = (&*key.namespace, &*key.service);
        let (port, problem) = match self.services.get(&name) {
            None => (None, Some(Problem::NoService)),
            Some(service) => find_port(service, &key.port),
        };
        let app_protocol = port.and_then(|port| port.app_protocol.as_deref());
        let protocol = app_protocol.and_then(UpstreamProtocol::of_app_protocol);
        let mut endpoints = Vec::new();
        if let Some(port) = port {
            for slice in self.slices.get(&name).into_iter().flatten() {
                read_slice(slice, port, &mut endpoints, diagnostics);
            }
        }
        endpoints.sort_unstable();
        endpoints.dedup();
        Resolved {
            backend: Backend {
                key: key.clone(),
                protocol: protocol.unwrap_or_default(),
                endpoints,
            },
            problem,
        }
    }
}

/// The port of a Service that a backend names. Its `targetPort` is accepted with a warning, as
/// ingress-nginx takes it silently and manifests rely on it.
fn find_port<'a>(
    service: &'a Service,
    wanted: &ServicePort,
) -> (Option<&'a KubernetesPort>, Option<Problem>) {
    let Some(spec) = &service.spec else {
        return (None, Some(Problem::NoPort));
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return (None, Some(Problem::ExternalName));
    }
    let tcp = || {
        let ports = spec.ports.iter().flatten();
        ports.filter(|port| {
            port.protocol
                .as_deref()
                .is_none_or(|protocol| protocol == "TCP")
        })
    };
    let named = tcp().find(|port| match wanted {
        ServicePort::Number(number) => port.port == i32::from(*number),
        ServicePort::Name(name) => port.name.as_deref() == Some(&**name),
    });
    if named.is_some() {
        return (named, None);
    }
    let targeted = tcp().find(|port| match (&port.target_port, wanted) {
        (Some(IntOrString::Int(target)), ServicePort::Number(number)) => {
            *target == i32::from(*number)
        }
        (Some(IntOrString::String(target)), ServicePort::Name(name)) => **target == **name,
        (None | Some(IntOrString::Int(_) | IntOrString::String(_)), _) => false,
    });
    let problem = targeted.map_or(Problem::NoPort, |port| Problem::ByTargetPort(port.port));
    (targeted, Some(problem))
}

fn read_slice(
    slice: &EndpointSlice,
    port: &KubernetesPort,
    endpoints: &mut Vec<Endpoint>,
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
        // Unknown counts as ready (EndpointConditions of discovery.k8s.io/v1).
        let ready = endpoint
            .conditions
            .as_ref()
            .and_then(|conditions| conditions.ready);
        if ready == Some(false) {
            continue;
        }
        for (address_index, address) in endpoint.addresses.iter().enumerate() {
            match address.parse::<IpAddr>() {
                Ok(ip) => endpoints.push(Endpoint {
                    address: SocketAddr::new(ip, number),
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

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
