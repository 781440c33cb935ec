//! Whose numbers they are: the labels of a route, one value for as long as the route is there.
//!
//! Two routes that nobody can tell apart by their labels (an exact path and a prefix of the same
//! text) share them.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ingress_core::ir::{HostPattern, Rule, ServicePort};

/// The labels of one route.
#[derive(Debug)]
pub(crate) struct Labels {
    pub(crate) slot: SlotKey,
    pub(crate) key: LabelKey,
    /// `namespace-service-port`, as ingress-nginx names an upstream; empty if there is none.
    pub(crate) upstream: Box<str>,
    retired: AtomicBool,
}

/// Where workers keep what belongs to labels, and which labels those are: a slot is used again
/// when its labels have left, but not with the same generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct SlotKey {
    /// Small: there are as many as there were labels at one time.
    pub(crate) index: u32,
    /// From 1.
    pub(crate) generation: u32,
}

/// What labels are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct LabelKey {
    /// The host pattern, not what the client asked for.
    pub(crate) host: Arc<str>,
    pub(crate) namespace: Arc<str>,
    pub(crate) ingress: Arc<str>,
    /// The path of the rule, not of the request.
    pub(crate) path: Arc<str>,
    pub(crate) service: Arc<str>,
    pub(crate) port: Option<ServicePort>,
}

/// All labels of the table that is served, by what they are made of.
#[derive(Debug, Default)]
pub(crate) struct LabelSet(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    labels: HashSet<ByKey>,
    /// The same by the indices of their slots, from 1; nobody's where they have left.
    by_slot: Vec<Option<Arc<Labels>>>,
    /// Slots that were used before, with the generation that comes next.
    free: Vec<SlotKey>,
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
    pub(crate) fn of_no_route() -> Arc<Self> {
        Arc::new(Self::new(SlotKey::NO_ROUTE, LabelKey::default()))
    }

    fn new(slot: SlotKey, key: LabelKey) -> Self {
        let upstream = key.port.as_ref().map(|port| {
            let (namespace, service) = (&key.namespace, &key.service);
            format!("{namespace}-{service}-{port}")
        });
        Self {
            slot,
            upstream: upstream.unwrap_or_default().into(),
            key,
            retired: AtomicBool::new(false),
        }
    }

    /// Whether the route has left the configuration.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

impl SlotKey {
    /// That of requests that match no route.
    pub(crate) const NO_ROUTE: Self = Self {
        index: 0,
        generation: 1,
    };

    fn new(index: u32) -> Self {
        let generation = 1;
        Self { index, generation }
    }

    /// Where it is among those of routes.
    fn place(self) -> Option<usize> {
        usize::try_from(self.index).ok()?.checked_sub(1)
    }

    /// The same for other labels.
    fn next(self) -> Self {
        Self {
            generation: self.generation.wrapping_add(1).max(1),
            ..self
        }
    }
}

impl LabelKey {
    /// What the requests of a rule are counted by.
    pub(crate) fn of(host: Option<&HostPattern>, rule: &Rule) -> Self {
        let (service, port) = match rule.target.primary() {
            Some(key) => (Arc::clone(&key.service), Some(key.port.clone())),
            None => (Arc::default(), None),
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
    pub(crate) fn intern(&self, key: LabelKey) -> Arc<Labels> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Known {
            labels,
            by_slot,
            free,
        } = &mut *known;
        if let Some(ByKey(known)) = labels.get(&key) {
            return Arc::clone(known);
        }
        let slot = free.pop().unwrap_or_else(|| {
            by_slot.push(None);
            SlotKey::new(u32::try_from(by_slot.len()).unwrap_or(u32::MAX))
        });
        let made = Arc::new(Labels::new(slot, key));
        labels.insert(ByKey(Arc::clone(&made)));
        if let Some(place) = slot.place().and_then(|place| by_slot.get_mut(place)) {
            *place = Some(Arc::clone(&made));
        }
        made
    }

    /// The labels of a slot, unless they have left.
    pub(crate) fn of_slot(&self, slot: SlotKey) -> Option<Arc<Labels>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let labels = known.by_slot.get(slot.place()?)?.clone()?;
        (labels.slot == slot).then_some(labels)
    }

    /// Says of these keys that nothing has them any more.
    pub(crate) fn retire(&self, keys: &HashSet<LabelKey>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for key in keys {
            if let Some(ByKey(labels)) = known.labels.take(key) {
                labels.retired.store(true, Ordering::Relaxed);
                if let Some(place) = labels
                    .slot
                    .place()
                    .and_then(|place| known.by_slot.get_mut(place))
                {
                    *place = None;
                }
                known.free.push(labels.slot.next());
            }
        }
    }
}
