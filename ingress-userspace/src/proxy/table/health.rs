//! The state of probed endpoints, for metrics and `sluice status`. The prober writes it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// What the probes of endpoints have told.
#[derive(Debug, Default)]
pub(crate) struct HealthState {
    passed: AtomicU64,
    failed: AtomicU64,
    unchecked: AtomicU64,
    current: Mutex<Vec<ProbedBackend>>,
}

/// A backend whose endpoints are probed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbedBackend {
    /// `namespace/service:port`.
    pub backend: String,
    /// How many endpoints it has.
    pub endpoints: usize,
    /// The endpoints that get no requests, or would get none if not all failed.
    pub failing: Vec<FailingEndpoint>,
}

/// An endpoint that fails its probes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailingEndpoint {
    /// Its address.
    pub address: SocketAddr,
    /// Why its last failed probe did not pass.
    pub reason: String,
}

impl HealthState {
    pub(crate) fn count(&self, has_passed: bool) {
        let counter = if has_passed {
            &self.passed
        } else {
            &self.failed
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_unchecked(&self, endpoints: u64) {
        self.unchecked.store(endpoints, Ordering::Relaxed);
    }

    pub(crate) fn set(&self, backends: Vec<ProbedBackend>) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = backends;
    }

    /// Probes that have passed, and those that have failed.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let value = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (value(&self.passed), value(&self.failed))
    }

    /// Endpoints that are not probed, because the limit is reached.
    pub(crate) fn unchecked(&self) -> u64 {
        self.unchecked.load(Ordering::Relaxed)
    }

    /// The backends whose endpoints are probed.
    pub(crate) fn backends(&self) -> Vec<ProbedBackend> {
        let current = self.current.lock();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
