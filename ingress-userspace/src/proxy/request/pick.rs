//! The pick phase: which endpoint a request goes to first.

use std::rc::Rc;

use http::request;
use ingress_core::ir::Balance;

use crate::proxy::request::client::Client;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::upstream::affinity::Session;
use crate::proxy::upstream::endpoint::InFlightGuard;
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::hash_key;
use crate::proxy::upstream::pool::{Backend, Pick, PickHint};

/// What a request asks of a pick: what it is hashed by, and where its session is.
pub(crate) fn hint(
    backend: &Backend,
    session: Option<&Session>,
    head: &request::Parts,
    client: &Client,
) -> PickHint {
    let key = match backend.balance() {
        Balance::Hash(by) | Balance::HashSubset(by, _) => {
            Some(hash_key::key(by, head, &client.address))
        }
        Balance::LeastRequest | Balance::RoundRobin | Balance::PeakEwma => None,
    };
    PickHint {
        key,
        endpoint: session.and_then(|session| session.endpoint),
    }
}

/// An endpoint that may have one more request; waits until there is one.
///
/// # Errors
///
/// [`UpstreamError::NoEndpoint`] for a backend without endpoints, [`UpstreamError::Full`] where as many requests
/// wait as may.
pub(crate) async fn pick(
    worker: &WorkerContext,
    backend: &Rc<Backend>,
    hint: PickHint,
) -> Result<InFlightGuard, UpstreamError> {
    let now = worker.runtime.timers.now();
    match worker
        .upstreams
        .pool
        .admit(backend, hint, worker.runtime.random(), now)
    {
        Pick::Endpoint(load) => Ok(load),
        Pick::Full => Box::pin(wait(worker, backend, hint)).await,
        Pick::Nobody => Err(UpstreamError::NoEndpoint),
    }
}

async fn wait(
    worker: &WorkerContext,
    backend: &Rc<Backend>,
    hint: PickHint,
) -> Result<InFlightGuard, UpstreamError> {
    worker.runtime.counters.upstream_queued.increment();
    let waiting = worker.upstreams.pool.wait(backend, hint, &worker.runtime);
    waiting.await.inspect_err(|failure| {
        if matches!(failure, UpstreamError::Full) {
            worker.runtime.counters.upstream_rejections.increment();
        }
    })
}
