//! Backends as routes see them: a slot that keeps its identity while endpoints change.
//!
//! Routes point at slots, so that endpoint churn touches no route; what is behind a slot is swapped
//! as a whole. A slot whose backend has left the configuration is retired: it keeps its endpoints
//! for requests that found it a moment before, and its idle connections are closed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use ingress_core::balance::hash;
use ingress_core::filter::Answer;
use ingress_core::ir::{
    Backend, BackendKey, Bandwidth, Canary, Compression, Endpoint, Filter, Mirror, Substitution,
    UpstreamProtocol,
};

use crate::proxy::observe::metrics::labels::{Labels, SlotKey};
use crate::proxy::tls::client_auth::Policy;

/// What a route has at hand for the requests that match it.
#[derive(Clone, Debug)]
pub(crate) struct RouteAction {
    pub(crate) destination: Destination,
    /// What clients have to show.
    pub(crate) client_auth: Option<Arc<Policy>>,
    /// Settings that few routes have.
    pub(crate) extras: Option<Arc<RouteExtras>>,
    /// What is done with requests and responses; `None`, as for most routes: nothing.
    pub(crate) filters: Option<Arc<[Filter]>>,
    /// What its requests are counted by.
    pub(crate) labels: Arc<Labels>,
    /// That of the labels, which so need not be looked at.
    pub(crate) slot: SlotKey,
}

/// Where a route leads.
#[derive(Clone, Debug)]
pub(crate) enum Destination {
    /// To an endpoint of this backend.
    Backend(Arc<BackendHandle>),
    /// To an endpoint of one of several backends.
    Split(Arc<Split>),
    /// To an endpoint of a backend or of its canaries.
    Canaries(Arc<CanaryRoute>),
    /// To this answer.
    Respond(Answer),
    /// To an answer with 503.
    Unavailable,
}

/// A backend and its canaries.
#[derive(Debug)]
pub(crate) struct CanaryRoute {
    pub(crate) main: Arc<BackendHandle>,
    pub(crate) canaries: Box<[(Arc<Canary>, Arc<BackendHandle>)]>,
}

/// Settings that few routes have, behind a pointer so that other routes stay small.
#[derive(Debug)]
pub(crate) struct RouteExtras {
    /// Answers in place of errors.
    pub(crate) error_pages: Option<ErrorRoute>,
    /// Where copies of requests are sent.
    pub(crate) mirror: Option<Arc<Mirror>>,
    /// How responses are compressed.
    pub(crate) compression: Option<Arc<Compression>>,
    /// What is replaced in response bodies.
    pub(crate) substitution: Option<Arc<Substitution>>,
    /// How fast responses may be.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// Whether requests are left out of the access log.
    pub(crate) is_unlogged: bool,
    /// Whether sessions name the backend that they are with.
    pub(crate) has_canaries: bool,
    /// The Path of session cookies; `None`: `/`, or their own.
    pub(crate) cookie_path: Option<Arc<str>>,
}

/// Which responses another backend gives in place of errors.
#[derive(Debug)]
pub(crate) struct ErrorRoute {
    /// Statuses of endpoints' responses.
    pub(crate) statuses: Box<[u16]>,
    /// Whether a backend without a ready endpoint is replaced, too.
    pub(crate) replaces_unavailable: bool,
    pub(crate) backend: Arc<BackendHandle>,
    /// The rule and its backend, for the fields that the error backend gets.
    pub(crate) origin: ErrorOrigin,
}

/// The rule whose responses are replaced.
#[derive(Clone, Debug)]
pub(crate) struct ErrorOrigin {
    pub(crate) namespace: Arc<str>,
    pub(crate) ingress: Arc<str>,
    pub(crate) service: Arc<str>,
    pub(crate) port: Box<str>,
}

/// Backends with their shares of the requests.
#[derive(Debug)]
pub(crate) struct Split {
    /// With the sum of the weights up to and with each; never empty, and the last sum is not zero.
    backends: Box<[(u64, Arc<BackendHandle>)]>,
}

impl Split {
    /// `None` where no backend has a share.
    pub(crate) fn new(shares: impl IntoIterator<Item = (u32, Arc<BackendHandle>)>) -> Option<Self> {
        let mut sum = 0;
        let shares = shares.into_iter().filter(|(weight, _)| *weight > 0);
        let backends: Box<[_]> = shares
            .map(|(weight, slot)| {
                sum += u64::from(weight);
                (sum, slot)
            })
            .collect();
        (!backends.is_empty()).then_some(Self { backends })
    }

    /// The backend of a request, by a random number.
    pub(crate) fn pick(&self, random: u64) -> &Arc<BackendHandle> {
        let total = self.backends.last().map_or(1, |(sum, _)| *sum);
        let share = random % total;
        let index = self.backends.partition_point(|(sum, _)| *sum <= share);
        &self.backends[index.min(self.backends.len() - 1)].1
    }
}

/// One backend and the endpoints that it has now.
#[derive(Debug)]
pub(crate) struct BackendHandle {
    /// Tells slots apart where a worker keeps something by slot.
    pub(crate) id: u64,
    /// A hash of the Service and its port: the same on every node.
    pub(crate) tag: u64,
    pub(crate) key: Arc<BackendKey>,
    /// Those that requests may go to.
    endpoints: ArcSwap<Endpoints>,
    /// What that is made from, where endpoints are probed.
    checked: Option<Box<Mutex<CheckedEndpoints>>>,
    retired: AtomicBool,
}

/// The endpoints of a backend whose endpoints are probed.
#[derive(Debug, Default)]
struct CheckedEndpoints {
    published: Arc<Endpoints>,
    /// Those that fail their probes.
    failing: BTreeSet<SocketAddr>,
}

impl CheckedEndpoints {
    /// The endpoints that requests may go to: those that do not fail, or all if no other is left.
    fn serving(&self) -> Arc<Endpoints> {
        let is_good = |address: &&SocketAddr| !self.failing.contains(address);
        let published = &self.published;
        let addresses: Vec<_> = published
            .addresses
            .iter()
            .filter(is_good)
            .copied()
            .collect();
        let draining: Vec<_> = published.draining.iter().filter(is_good).copied().collect();
        let is_same = addresses.len() == published.addresses.len()
            && draining.len() == published.draining.len();
        if is_same || addresses.is_empty() {
            return Arc::clone(published);
        }
        Arc::new(Endpoints {
            addresses,
            draining,
            protocol: published.protocol,
        })
    }
}

/// Where a backend is served.
#[derive(Debug, Default)]
pub(crate) struct Endpoints {
    /// In the order of `ir::Backend`.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where sessions may stay that are there.
    pub(crate) draining: Vec<SocketAddr>,
    pub(crate) protocol: UpstreamProtocol,
}

impl BackendHandle {
    /// A slot without endpoints; they come when its table is published.
    pub(crate) fn new(id: u64, key: &Arc<BackendKey>) -> Self {
        let is_checked = key.policy.health_check.is_some();
        Self {
            id,
            tag: hash(key.to_string().as_bytes()),
            key: Arc::clone(key),
            endpoints: ArcSwap::default(),
            checked: is_checked.then(Box::default),
            retired: AtomicBool::new(false),
        }
    }

    pub(crate) fn endpoints(&self) -> Guard<Arc<Endpoints>> {
        self.endpoints.load()
    }

    pub(crate) fn set_endpoints(&self, endpoints: Arc<Endpoints>) {
        let Some(checked) = &self.checked else {
            self.endpoints.store(endpoints);
            return;
        };
        let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
        checked.published = endpoints;
        self.endpoints.store(checked.serving());
    }

    /// Its endpoints, also those that fail their probes; `None` where none is probed.
    pub(crate) fn published(&self) -> Option<Arc<Endpoints>> {
        let checked = self.checked.as_ref()?;
        let checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&checked.published))
    }

    /// Takes these endpoints out, until others are named. Returns whether that changes anything.
    pub(crate) fn set_failing(&self, failing: BTreeSet<SocketAddr>) -> bool {
        let Some(checked) = &self.checked else {
            return false;
        };
        let mut checked = checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.failing == failing {
            return false;
        }
        checked.failing = failing;
        self.endpoints.store(checked.serving());
        true
    }

    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}

impl Endpoints {
    pub(crate) fn of(backend: &Backend) -> Arc<Self> {
        let addresses = |endpoints: &[Endpoint]| {
            let addresses = endpoints.iter().map(|endpoint| endpoint.address);
            addresses.collect::<Vec<_>>()
        };
        let draining = addresses(&backend.draining);
        let addresses = addresses(&backend.endpoints);
        // Where none is ready, those that still serve are both.
        let is_other = |address: &SocketAddr| !addresses.contains(address);
        Arc::new(Self {
            draining: draining.into_iter().filter(is_other).collect(),
            addresses,
            protocol: backend.protocol,
        })
    }
}
