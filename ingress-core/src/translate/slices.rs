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
use super::backend::{self, Resolved};
use super::memo::{Memo, Sources};
use crate::ir::{Backend, BackendKey, BackendPolicy, ServicePort};
use crate::object::EndpointSlice;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::sorted::SortedMap;

/// A snapshot and what it means.
pub(super) struct Last {
    pub(super) snapshot: Snapshot,
    pub(super) translation: Translation,
}

/// What `snapshot` means, if the short way leads there from the last one.
pub(super) fn follow(last: &Last, snapshot: &Snapshot, memo: &mut Memo) -> Option<Translation> {
    if !differ_in_slices_alone(&last.snapshot, snapshot) {
        return None;
    }
    let mut translation = last.translation.clone();
    let backends = &mut translation.config.backends;
    let changes = Changes::between(&last.snapshot.endpoint_slices, &snapshot.endpoint_slices)?;
    for ((namespace, service), new) in &changes.by_service {
        for key in keys_of(backends, namespace, service) {
            // One that does not exist or has an external name is not made from slices.
            let Some((sources, before)) = memo.backend_of_pods(&key) else {
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
            memo.keep_backend(&key, sources, Arc::new(after));
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
    fn between(
        before: &'a Shared<Vec<Arc<EndpointSlice>>>,
        after: &'a Shared<Vec<Arc<EndpointSlice>>>,
    ) -> Option<Self> {
        let (before, after) = without_same_ends(before, after);
        if before.len().max(after.len()) > COMPARED_MAX {
            return None;
        }
        let set = |slices: &[Arc<EndpointSlice>]| -> HashSet<_> {
            slices.iter().map(Arc::as_ptr).collect()
        };
        let (is_before, is_after) = (set(before), set(after));
        let lost = before
            .iter()
            .filter(|slice| !is_after.contains(&Arc::as_ptr(slice)));
        let new = after
            .iter()
            .filter(|slice| !is_before.contains(&Arc::as_ptr(slice)));
        let mut by_service = BTreeMap::new();
        for slice in lost.clone() {
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
            gone: lost.map(Arc::as_ptr).collect(),
            by_service,
        })
    }
}

/// Leaves out what two lists begin and end with alike: most of them, when few objects changed.
fn without_same_ends<'a, T>(a: &'a [Arc<T>], b: &'a [Arc<T>]) -> (&'a [Arc<T>], &'a [Arc<T>]) {
    let is_same = |(a, b): &(&Arc<T>, &Arc<T>)| Arc::ptr_eq(a, b);
    let start = a.iter().zip(b).take_while(is_same).count();
    let (a, b) = (
        a.get(start..).unwrap_or_default(),
        b.get(start..).unwrap_or_default(),
    );
    let end = a.iter().rev().zip(b.iter().rev());
    let end = end.take_while(is_same).count();
    let without_end = |list: &'a [Arc<T>]| list.get(..list.len() - end).unwrap_or_default();
    (without_end(a), without_end(b))
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

/// Slices between the first and the last that differ.
const COMPARED_MAX: usize = 1 << 16;
