//! The upstream context of a worker's requests: pools, sockets, TLS.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::proxy::runtime::context::Runtime;
use crate::proxy::tls::upstream::UpstreamTls;
use crate::proxy::upstream::connect::Dial;
use crate::proxy::upstream::connection_sharing::Peers;
use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::write_batch::WriteBatch;

/// The upstream side of one worker.
pub(crate) struct Upstreams {
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) pool: Pool,
    /// Other workers, which lend their idle connections.
    pub(crate) peers: Peers,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) tls: UpstreamTls,
    pub(crate) write_batch: WriteBatch,
}

impl Upstreams {
    /// Takes back a connection whose exchange is over.
    pub(crate) fn release(&self, endpoint: &Endpoint, upstream: Box<Upstream>) {
        self.pool.put(endpoint, upstream, self.runtime.timers.now());
    }

    /// Writes what requests have put off, for as long as the worker lives. A task of its own: it is
    /// woken for every request.
    pub(crate) async fn run_write_batch(self: Rc<Self>) {
        self.write_batch.run().await;
    }

    /// Serves the queues of backends, for as long as the worker lives.
    pub(crate) async fn run_queues(self: Rc<Self>) {
        self.pool.serve_queues(&self.runtime).await;
    }

    /// Closes connections that have been idle for too long, for as long as the worker lives.
    pub(crate) async fn run_sweep(self: Rc<Self>) {
        loop {
            tokio::time::sleep(SWEEP_INTERVAL).await;
            let runtime = &self.runtime;
            let now = runtime.timers.now();
            self.pool
                .sweep(now, runtime.idle_timeouts.get().upstream_idle);
            runtime.memory.stalls.make_room(now);
        }
    }
}

/// How often idle connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
