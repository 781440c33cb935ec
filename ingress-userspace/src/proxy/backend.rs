//! Backends as the request path sees them: a slot that keeps its identity while endpoints change.
//!
//! Routes point at slots, so that endpoint churn touches no route; a slot's endpoints are swapped
//! as a whole. A slot whose backend has left the configuration is retired: it keeps its endpoints
//! for requests that found it a moment before, and its idle connections are closed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use ingress_core::ir::Backend;

/// Where a route leads.
#[derive(Clone, Debug)]
pub(super) enum Destination {
    /// To an endpoint of this backend.
    Backend(Arc<BackendSlot>),
    /// To an answer with 503.
    Unavailable,
}

/// One backend and the endpoints that it has now.
#[derive(Debug)]
pub(super) struct BackendSlot {
    /// Tells slots apart where a worker keeps something by slot.
    pub(super) id: u64,
    endpoints: ArcSwap<Vec<SocketAddr>>,
    retired: AtomicBool,
}

impl BackendSlot {
    /// A slot without endpoints; they come when its table is published.
    pub(super) fn new(id: u64) -> Self {
        Self {
            id,
            endpoints: ArcSwap::default(),
            retired: AtomicBool::new(false),
        }
    }

    /// The endpoint whose turn it is by the caller's count of picks.
    pub(super) fn pick(&self, turn: u64) -> Option<SocketAddr> {
        let endpoints = self.endpoints.load();
        let index = turn.checked_rem(endpoints.len() as u64)?;
        endpoints.get(usize::try_from(index).ok()?).copied()
    }

    /// Whether connections to this address are worth keeping.
    pub(super) fn keeps(&self, address: SocketAddr) -> bool {
        // Sorted by `ir::Backend`.
        !self.retired.load(Ordering::Relaxed)
            && self.endpoints.load().binary_search(&address).is_ok()
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_endpoints(&self, endpoints: Arc<Vec<SocketAddr>>) {
        self.endpoints.store(endpoints);
    }
}

/// The addresses of a backend, in their order.
pub(super) fn addresses(backend: &Backend) -> Arc<Vec<SocketAddr>> {
    Arc::new(
        backend
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address)
            .collect(),
    )
}
