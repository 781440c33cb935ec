//! State that the daemon reports to the admin sockets: readiness, and the source of metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use arc_swap::ArcSwapOption;

use crate::proxy::Metrics;

/// Whether load balancers should send clients here. The daemon and its operator set it; the admin
/// sockets read it.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    phase: Arc<AtomicU8>,
    /// Whether the operator wants clients to go elsewhere.
    is_set_aside: Arc<AtomicBool>,
}

/// The phase of the daemon's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has no configuration yet.
    Starting,
    /// It serves.
    Ready,
    /// It is about to end, or its operator wants clients to go elsewhere.
    Draining,
}

impl Readiness {
    /// The first configuration is served.
    pub fn ready(&self) {
        self.phase.store(State::Ready as u8, Ordering::Relaxed);
    }

    /// The end is near: clients should go elsewhere.
    pub fn drain(&self) {
        self.phase.store(State::Draining as u8, Ordering::Relaxed);
    }

    /// The operator wants clients to go elsewhere while everything goes on, or no longer.
    pub(super) fn set_aside(&self, is_set_aside: bool) {
        self.is_set_aside.store(is_set_aside, Ordering::Relaxed);
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
        match self.phase.load(Ordering::Relaxed) {
            state if state == State::Ready as u8 => {
                if self.is_set_aside.load(Ordering::Relaxed) {
                    State::Draining
                } else {
                    State::Ready
                }
            }
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
