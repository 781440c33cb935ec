//! Step 5a: the endpoints behind the backends that served rules name.
//!
//! A backend port names a port of the Service; the Service's port name names a port of its
//! EndpointSlices, which already carry the pods' port numbers. So a `targetPort`, be it a number,
//! a name or different in each pod, needs no lookup here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;

use super::Options;
use super::conflict::{BackendUse, Place, Winners};
use super::endpoint::{self, Chosen};
use super::external::{self, External};
use super::memo::Memo;
use super::name_shares::NameShares;
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Backend, BackendKey, Endpoint, ObjectRef, ServicePort, UpstreamProtocol};
use crate::object::{EndpointSlice, PortRef, Service, ServicePort as PortObject};
use crate::snapshot::Snapshot;

/// The backends of served rules.
pub(super) struct Resolution {
    pub(super) backends: BTreeMap<Arc<BackendKey>, Arc<Backend>>,
    pub(super) external_names: BTreeSet<Arc<str>>,
}

/// Backends of pods that earlier translations have resolved.
pub(super) type BackendMemo = Memo<Arc<BackendKey>, Sources, Arc<Resolved>>;

/// Everything that a backend of pods is made from.
pub(super) struct Sources {
    pub(super) service: Arc<Service>,
    pub(super) slices: Box<[Arc<EndpointSlice>]>,
    /// The zone whose hints are honoured.
    pub(super) zone: Option<Box<str>>,
}

impl Sources {
    fn are(
        &self,
        service: &Arc<Service>,
        slices: &[&Arc<EndpointSlice>],
        zone: Option<&str>,
    ) -> bool {
        Arc::ptr_eq(&self.service, service)
            && self.zone.as_deref() == zone
            && self.slices.len() == slices.len()
            && self
                .slices
                .iter()
                .zip(slices)
                .all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

/// Resolves every backend that a served rule names; each backend once, each mention of a broken
/// one reported.
pub(super) fn resolve(
    snapshot: &Snapshot,
    options: &Options,
    winners: &Winners<'_>,
    memo: &mut BackendMemo,
    diagnostics: &mut Vec<Diagnostic>,
) -> Resolution {
    let index = Index::new(snapshot, options, winners);
    let mut external_names = NameShares::default();
    let mut resolved: HashMap<&Arc<BackendKey>, Arc<Resolved>> =
        HashMap::with_capacity(winners.uses.len());
    for BackendUse { key, place } in &winners.uses {
        let resolved = resolved.entry(*key).or_insert_with(|| {
            let resolved = index.resolve(key, memo, &mut external_names);
            diagnostics.extend_from_slice(&resolved.diagnostics);
            resolved
        });
        if let Some(problem) = &resolved.problem {
            diagnostics.push(problem.diagnostic(key, *place));
        }
    }
    let backends = resolved
        .into_values()
        .map(|one| (Arc::clone(&one.backend.key), Arc::clone(&one.backend)))
        .collect();
    Resolution {
        backends,
        external_names: external_names.fair(EXTERNAL_NAMES_MAX),
    }
}

/// Names that are looked up; further ones have no endpoints.
const EXTERNAL_NAMES_MAX: usize = 4096;

/// What became of a backend.
pub(super) struct Resolved {
    pub(super) backend: Arc<Backend>,
    problem: Option<Problem>,
    /// What is wrong with its slices.
    pub(super) diagnostics: Vec<Diagnostic>,
}

impl Resolved {
    fn of(backend: Backend, problem: Option<Problem>) -> Arc<Self> {
        Arc::new(Self {
            backend: Arc::new(backend),
            problem,
            diagnostics: Vec::new(),
        })
    }
}

/// What is wrong with a backend, to be told to everyone who names it.
enum Problem {
    NoService,
    NoPort,
    External(external::Problem),
    ByTargetPort(i32),
}

impl Problem {
    fn diagnostic(&self, key: &BackendKey, place: Place<'_>) -> Diagnostic {
        let BackendKey {
            namespace,
            service,
            port,
            ..
        } = key;
        let outcome = match place {
            Place::Rule(..) | Place::Operator => "answered with 503",
            Place::Entry(..) => "nothing is carried to it",
        };
        let (reason, part, message) = match self {
            Self::NoService => (
                Reason::ServiceNotFound,
                "service.name",
                format!("Service `{namespace}/{service}` does not exist; {outcome}"),
            ),
            Self::NoPort => (
                Reason::ServicePortNotFound,
                "service.port",
                format!(
                    "Service `{namespace}/{service}` has no {} port `{port}`; {outcome}",
                    key.transport(),
                ),
            ),
            Self::External(problem) => (
                problem.reason(),
                "service.name",
                format!("Service `{namespace}/{service}` {problem}; {outcome}"),
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
            Place::Rule(ingress, field) => (ingress.clone(), format!("{}.{part}", field.backend())),
            Place::Entry(config_map, key) => (config_map.clone(), format!("data[{key}]")),
            Place::Operator => (
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
    services: HashMap<(&'a str, &'a str), &'a Arc<Service>>,
    slices: HashMap<(&'a str, &'a str), Vec<&'a Arc<EndpointSlice>>>,
    externals: External<'a>,
    /// The zone whose hints are honoured.
    zone: Option<&'a str>,
}

impl<'a> Index<'a> {
    fn new(snapshot: &'a Snapshot, options: &'a Options, winners: &'a Winners<'_>) -> Self {
        let services = (snapshot.services.iter())
            .map(|service| ((&*service.meta.namespace, &*service.meta.name), service))
            .collect();
        let mut slices: HashMap<_, Vec<_>> = HashMap::new();
        for slice in &snapshot.endpoint_slices {
            if let Some(service) = slice.service.as_deref() {
                let key = (&*slice.meta.namespace, service);
                slices.entry(key).or_default().push(slice);
            }
        }
        Self {
            services,
            slices,
            externals: External::new(snapshot, options, &winners.hosts),
            zone: endpoint::zone(&snapshot.nodes, options.hints_for_node.as_deref()),
        }
    }

    fn resolve(
        &self,
        key: &Arc<BackendKey>,
        memo: &mut BackendMemo,
        external_names: &mut NameShares,
    ) -> Arc<Resolved> {
        let empty = || Backend::without_endpoints(key);
        let name = (&*key.namespace, &*key.service);
        let Some(service) = self.services.get(&name) else {
            return Resolved::of(empty(), Some(Problem::NoService));
        };
        if let Some(name) = &service.external_name {
            let names = external_names.of(&key.namespace);
            let found = (self.externals).resolve(name, &service.ports, &key.port, names);
            return match found {
                Ok(endpoints) => Resolved::of(
                    Backend {
                        endpoints,
                        ..empty()
                    },
                    None,
                ),
                Err(problem) => Resolved::of(empty(), Some(Problem::External(problem))),
            };
        }
        let slices = self.slices.get(&name).map_or(&[][..], Vec::as_slice);
        let is_same = |sources: &mut Sources| sources.are(service, slices, self.zone);
        if let Some(known) = memo.get(&**key, is_same) {
            return Arc::clone(known);
        }
        let slices: Box<[_]> = slices.iter().copied().cloned().collect();
        let resolved = Arc::new(of_pods(empty(), service, &slices, self.zone));
        let sources = Sources {
            service: Arc::clone(service),
            slices,
            zone: self.zone.map(Into::into),
        };
        memo.keep(Arc::clone(key), sources, Arc::clone(&resolved));
        resolved
    }
}

/// Fills a backend with the endpoints of a Service.
pub(super) fn of_pods(
    mut backend: Backend,
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    zone: Option<&str>,
) -> Resolved {
    let mut diagnostics = Vec::new();
    let (port, problem) = find_port(service, &backend.key);
    if let Some(port) = port {
        let app_protocol = port.app_protocol.as_deref();
        let by_port = app_protocol.and_then(UpstreamProtocol::of_app_protocol);
        let asked_for = backend.key.policy.protocol;
        backend.protocol = asked_for.or(by_port).unwrap_or_default();
        if backend.key.policy.by_service_address
            && let Some(endpoint) = service_address(service, port)
        {
            backend.endpoints = vec![endpoint];
            return Resolved {
                backend: Arc::new(backend),
                problem,
                diagnostics,
            };
        }
        let mut candidates = Vec::new();
        for slice in slices {
            endpoint::read_slice(slice, port, &mut candidates, &mut diagnostics);
        }
        let Chosen { ready, draining } = endpoint::choose(candidates, &service.ip_families, zone);
        backend.endpoints = if ready.is_empty() {
            draining.clone()
        } else {
            ready
        };
        backend.draining = draining;
    }
    Resolved {
        backend: Arc::new(backend),
        problem,
        diagnostics,
    }
}

/// The Service's own address and port; none where it is headless.
fn service_address(service: &Service, port: &PortObject) -> Option<Endpoint> {
    let address = service.cluster_ips.first()?;
    let port = u16::try_from(port.port).ok().filter(|port| *port > 0)?;
    Some(Endpoint {
        address: (*address, port).into(),
    })
}

/// The port of a Service that a backend names. Its `targetPort` is accepted with a warning, as
/// ingress-nginx takes it silently and manifests rely on it.
fn find_port<'a>(
    service: &'a Service,
    key: &BackendKey,
) -> (Option<&'a PortObject>, Option<Problem>) {
    let wanted = &key.port;
    let ports = || {
        service
            .ports
            .iter()
            .filter(|port| port.is_of(key.transport()))
    };
    let named = ports().find(|port| match wanted {
        ServicePort::Number(number) => port.port == i32::from(*number),
        ServicePort::Name(name) => port.name.as_deref() == Some(&**name),
    });
    if named.is_some() {
        return (named, None);
    }
    let targeted = ports().find(|port| match (&port.target, wanted) {
        (Some(PortRef::Number(target)), ServicePort::Number(number)) => {
            *target == i32::from(*number)
        }
        (Some(PortRef::Name(target)), ServicePort::Name(name)) => **target == **name,
        (None | Some(PortRef::Number(_) | PortRef::Name(_)), _) => false,
    });
    let problem = targeted.map_or(Problem::NoPort, |port| Problem::ByTargetPort(port.port));
    (targeted, Some(problem))
}
