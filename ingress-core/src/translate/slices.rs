//! The short way of a change: pods that come and go.
//!
//! Where a snapshot differs from the last one in EndpointSlices alone, the last translation holds
//! except for the backends of their Services. That is most of what happens in a cluster, and costs
//! what those backends cost, however many Ingresses there are.
//!
//! Architecture invariant: gives what the long way gives, or nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::Translation;
use super::backend::{self, BackendMemo, Resolved, Sources};
use crate::ir::{Backend, BackendKey, BackendPolicy, ServicePort};
use crate::list::{Difference, List};
use crate::object::EndpointSlice;
use crate::snapshot::Snapshot;
use crate::sorted::SortedMap;

/// A snapshot and what it means.
pub(super) struct Previous {
    pub(super) snapshot: Snapshot,
    pub(super) translation: Translation,
}

/// What `snapshot` means, if the short way leads there from the last one.
pub(super) fn follow(
    last: &Previous,
    snapshot: &Snapshot,
    memo: &mut BackendMemo,
) -> Option<Translation> {
    if !differ_in_slices_alone(&last.snapshot, snapshot) {
        return None;
    }
    let mut translation = last.translation.clone();
    let backends = &mut translation.config.backends;
    let changes = Changes::between(&last.snapshot.endpoint_slices, &snapshot.endpoint_slices)?;
    for ((namespace, service), new) in &changes.by_service {
        for key in keys_of(backends, namespace, service) {
            // One that does not exist or has an external name is not made from slices.
            let Some((sources, before)) = memo.last(&*key) else {
                continue;
            };
            let staying = sources
                .slices
                .iter()
                .filter(|slice| !changes.gone.contains(&Arc::as_ptr(slice)));
            let slices: Box<[_]> = staying.chain(new.iter().copied()).cloned().collect();
            let empty = Backend::without_endpoints(&key);
            let zone = sources.zone.as_deref();
            let mut after = backend::of_pods(empty, &sources.service, &slices, zone);
            // What slices complain of stands among the diagnostics of everything else.
            if before.has_complaints() || after.has_complaints() {
                return None;
            }
            if after.backend == before.backend {
                after.backend = Arc::clone(&before.backend);
            } else {
                backends.insert(Arc::clone(&key), Arc::clone(&after.backend));
            }
            let sources = Sources {
                service: Arc::clone(&sources.service),
                slices,
                zone: sources.zone.clone(),
            };
            memo.keep(Arc::clone(&key), sources, Arc::new(after));
        }
    }
    Some(translation)
}

fn differ_in_slices_alone(last: &Snapshot, snapshot: &Snapshot) -> bool {
    let Snapshot {
        ingresses,
        ingress_classes,
        services,
        endpoint_slices: _,
        secrets,
        config_maps,
        nodes,
        // Of these only the status tells.
        pods: _,
        names,
    } = snapshot;
    ingresses.is(&last.ingresses)
        && services.is(&last.services)
        && ingress_classes.is(&last.ingress_classes)
        && secrets.is(&last.secrets)
        && config_maps.is(&last.config_maps)
        && nodes.is(&last.nodes)
        && *names == last.names
}

/// What differs between two lists of slices.
struct Changes<'a> {
    gone: HashSet<*const EndpointSlice>,
    /// The new slices of each Service that has new ones or lost some, by namespace and name.
    by_service: BTreeMap<(&'a str, &'a str), Vec<&'a Arc<EndpointSlice>>>,
}

impl<'a> Changes<'a> {
    /// `None` if they are too many for the short way to be shorter.
    fn between(before: &'a List<EndpointSlice>, after: &'a List<EndpointSlice>) -> Option<Self> {
        let Difference { gone, new } = before.difference(after);
        if gone.len().max(new.len()) > CHANGED_MAX {
            return None;
        }
        let mut by_service = BTreeMap::new();
        for slice in &gone {
            if let Some(service) = service_of(slice) {
                by_service.entry(service).or_insert_with(Vec::new);
            }
        }
        for slice in new {
            if let Some(service) = service_of(slice) {
                by_service
                    .entry(service)
                    .or_insert_with(Vec::new)
                    .push(slice);
            }
        }
        Some(Self {
            gone: gone.into_iter().map(Arc::as_ptr).collect(),
            by_service,
        })
    }
}

fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    Some((&*slice.meta.namespace, slice.service.as_deref()?))
}

/// The backends that are ports of a Service.
fn keys_of(
    backends: &SortedMap<Arc<BackendKey>, Arc<Backend>>,
    namespace: &str,
    service: &str,
) -> Vec<Arc<BackendKey>> {
    // Keys are ordered by namespace and Service first, and this is the smallest of a Service.
    let first = BackendKey {
        namespace: namespace.into(),
        service: service.into(),
        port: ServicePort::Number(0),
        policy: BackendPolicy::default(),
    };
    let keys = backends.range_from::<BackendKey>(&first);
    keys.map(|(key, _)| key)
        .take_while(|key| *key.namespace == *namespace && *key.service == *service)
        .cloned()
        .collect()
}

impl Resolved {
    fn has_complaints(&self) -> bool {
        !self.diagnostics.is_empty()
    }
}

/// Slices that went, or came.
const CHANGED_MAX: usize = 1 << 16;
