//! Whose numbers they are: the labels of a route, one value for as long as the route is there.
//!
//! Two routes that nobody can tell apart by their labels (an exact path and a prefix of the same
//! text) share them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ingress_core::ir::{HostPattern, Rule, ServicePort, Target};

/// The labels of one route.
#[derive(Debug)]
pub(in super::super) struct Labels {
    /// Tells labels apart; never used again.
    pub(in super::super) id: u64,
    pub(in super::super) key: LabelKey,
    /// `namespace-service-port`, as ingress-nginx names an upstream; empty if there is none.
    pub(in super::super) upstream: Box<str>,
    retired: AtomicBool,
}

/// What labels are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(in super::super) struct LabelKey {
    /// The host pattern, not what the client asked for.
    pub(in super::super) host: Arc<str>,
    pub(in super::super) namespace: Arc<str>,
    pub(in super::super) ingress: Arc<str>,
    /// The path of the rule, not of the request.
    pub(in super::super) path: Arc<str>,
    pub(in super::super) service: Arc<str>,
    pub(in super::super) port: Option<ServicePort>,
}

/// All labels of the table that is served, by what they are made of.
#[derive(Debug, Default)]
pub(in super::super) struct LabelSet(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    labels: HashSet<ByKey>,
    last_id: u64,
}

/// Labels that are found by what they are made of.
#[derive(Debug)]
struct ByKey(Arc<Labels>);

impl Borrow<LabelKey> for ByKey {
    fn borrow(&self) -> &LabelKey {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

impl Labels {
    /// Those of requests that match no route.
    pub(in super::super) fn of_no_route() -> Arc<Self> {
        Arc::new(Self::new(0, LabelKey::default()))
    }

    fn new(id: u64, key: LabelKey) -> Self {
        let upstream = key.port.as_ref().map(|port| {
            let (namespace, service) = (&key.namespace, &key.service);
            format!("{namespace}-{service}-{port}")
        });
        Self {
            id,
            upstream: upstream.unwrap_or_default().into(),
            key,
            retired: AtomicBool::new(false),
        }
    }

    /// Whether the route has left the configuration.
    pub(in super::super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

impl LabelKey {
    /// What the requests of a rule are counted by.
    pub(in super::super) fn of(host: Option<&HostPattern>, rule: &Rule) -> Self {
        let (service, port) = match &rule.target {
            Target::Backend(key) => (Arc::clone(&key.service), Some(key.port.clone())),
            Target::Unavailable => (Arc::default(), None),
        };
        Self {
            host: host.map_or_else(Arc::default, HostPattern::to_text),
            namespace: Arc::clone(&rule.origin.ingress.namespace),
            ingress: Arc::clone(&rule.origin.ingress.name),
            path: Arc::clone(&rule.origin.path),
            service,
            port,
        }
    }
}

impl LabelSet {
    /// The labels of this key: the same value for the same key until it is retired.
    pub(in super::super) fn intern(&self, key: LabelKey) -> Arc<Labels> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { labels, last_id } = &mut *known;
        if let Some(ByKey(known)) = labels.get(&key) {
            return Arc::clone(known);
        }
        *last_id += 1;
        let made = Arc::new(Labels::new(*last_id, key));
        labels.insert(ByKey(Arc::clone(&made)));
        made
    }

    /// Says of these keys that nothing has them any more.
    pub(in super::super) fn retire(&self, keys: &HashSet<LabelKey>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some(ByKey(labels)) = known.labels.take(key) {
                labels.retired.store(true, Ordering::Relaxed);
            }
        }
    }
}
