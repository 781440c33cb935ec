//! What an endpoint's answer says about the endpoint.

use std::time::Duration;

use http::StatusCode;
use ingress_core::ir::Balance;

use crate::proxy::runtime::context::Runtime;
use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::pool::Backend;

/// Notes the status of an answer and how long it took, for balancing and outlier ejection.
pub(crate) fn record(
    runtime: &Runtime,
    backend: &Backend,
    endpoint: &Endpoint,
    status: StatusCode,
    took: Duration,
) {
    let now = runtime.timers.now();
    if *backend.balance() == Balance::PeakEwma {
        endpoint.observe(took, now);
    }
    if endpoint.answer(status, now) {
        runtime.counters.upstream_ejections.increment();
    }
}
