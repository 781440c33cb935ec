//! What an endpoint's answer says about the endpoint.

use std::time::Duration;

use http::StatusCode;
use ingress_core::ir::Balance;

use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::pool::Backend;
use crate::proxy::worker::WorkerState;

/// Notes the status of an answer and how long it took, for balancing and outlier ejection.
pub(crate) fn record(
    worker: &WorkerState,
    backend: &Backend,
    endpoint: &Endpoint,
    status: StatusCode,
    took: Duration,
) {
    let now = worker.timers.now();
    if *backend.balance() == Balance::PeakEwma {
        endpoint.observe(took, now);
    }
    if endpoint.answer(status, now) {
        worker.counters.upstream_ejections.increment();
    }
}
