//! State that the daemon reports to the admin sockets: readiness, and the source of metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use arc_swap::ArcSwapOption;

use crate::proxy::Metrics;

/// Whether load balancers should send clients here. The daemon sets it; the admin sockets read it.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// The phase of the daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has no configuration yet.
    Starting,
    /// It serves.
    Ready,
    /// It is about to end.
    Draining,
}

impl Readiness {
    /// The first configuration is served.
    pub fn ready(&self) {
        self.0.store(State::Ready as u8, Ordering::Relaxed);
    }

    /// The end is near: clients should go elsewhere.
    pub fn drain(&self) {
        self.0.store(State::Draining as u8, Ordering::Relaxed);
    }

    /// The name of the phase: `starting`, `ready` or `draining`.
    pub fn name(&self) -> &'static str {
        match self.state() {
            State::Starting => "starting",
            State::Ready => "ready",
            State::Draining => "draining",
        }
    }

    pub(super) fn state(&self) -> State {
        match self.0.load(Ordering::Relaxed) {
            state if state == State::Ready as u8 => State::Ready,
            state if state == State::Draining as u8 => State::Draining,
            _ => State::Starting,
        }
    }
}

/// Where the metrics will be once there are workers to count.
#[derive(Clone, Default)]
pub struct MetricsSlot(Arc<ArcSwapOption<Metrics>>);

impl MetricsSlot {
    /// Puts them there, in place of those of workers that end.
    pub fn fill(&self, metrics: Metrics) {
        self.0.store(Some(Arc::new(metrics)));
    }

    pub(super) fn load(&self) -> Option<Arc<Metrics>> {
        self.0.load_full()
    }
}
