//! What the requests of a worker share on the side of endpoints: pools, sockets, TLS.

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

    /// Does what has to be done beside requests, for as long as the worker lives: writes that were
    /// put off, queues, and the end of idle connections and of clients that stall for too long.
    pub(crate) async fn run(self: Rc<Self>) {
        let sweeping = async {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                let runtime = &self.runtime;
                let now = runtime.timers.now();
                self.pool.sweep(now, runtime.timeouts.upstream_idle);
                runtime.memory.stalls.make_room(now);
            }
        };
        let queues = self.pool.serve_queues(&self.runtime);
        tokio::join!(self.write_batch.run(), queues, sweeping);
    }
}

/// How often idle connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
