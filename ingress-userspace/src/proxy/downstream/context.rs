//! The context of a worker's client connections: TLS, admission, their count.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::proxy::downstream::admission::ClientLimit;
use crate::proxy::downstream::evictions::Evictions;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::runtime::transport::Datapath;
use crate::proxy::tls::ServerTls;

/// The accepting side of one worker.
pub(crate) struct AcceptContext {
    /// The context of their requests.
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) tls: Arc<ServerTls>,
    pub(crate) client_limit: ClientLimit,
    pub(crate) evictions: Evictions,
    connections_max: u64,
    gauge: Arc<dyn ConnectionGauge>,
    open: Cell<u64>,
    closed: Notify,
}

/// Is told about each downstream connection, on the worker's thread.
pub trait ConnectionGauge: Send + Sync + 'static {
    /// A connection was accepted.
    fn opened(&self, worker: usize, datapath: Datapath);
    /// A connection was closed.
    fn closed(&self, worker: usize, datapath: Datapath);
}

/// A gauge that reports nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGauge;

impl ConnectionGauge for NoGauge {
    fn opened(&self, _: usize, _: Datapath) {}
    fn closed(&self, _: usize, _: Datapath) {}
}

impl AcceptContext {
    pub(crate) fn new(
        worker: Rc<WorkerContext>,
        tls: Arc<ServerTls>,
        gauge: Arc<dyn ConnectionGauge>,
        connections_max: u64,
    ) -> Rc<Self> {
        Rc::new(Self {
            tls,
            client_limit: ClientLimit::new(worker.limits.connections_max),
            evictions: Evictions::default(),
            connections_max,
            worker,
            gauge,
            open: Cell::new(0),
            closed: Notify::new(),
        })
    }

    pub(crate) fn open(&self, datapath: Datapath) {
        self.open.set(self.open.get() + 1);
        let runtime = &self.worker.runtime;
        let counters = runtime.counters.datapath(datapath);
        counters.connections_accepted.increment();
        counters.connections_open.increment();
        self.gauge.opened(runtime.index, datapath);
    }

    pub(crate) fn close(&self, datapath: Datapath) {
        self.open.set(self.open.get() - 1);
        let runtime = &self.worker.runtime;
        runtime
            .counters
            .datapath(datapath)
            .connections_open
            .decrement();
        self.gauge.closed(runtime.index, datapath);
        self.closed.notify_waiters();
    }

    /// Returns when one more connection may be taken: those that have been idle longest give way.
    pub(crate) async fn wait_for_room(&self) {
        while self.open.get() >= self.connections_max {
            let closed = self.closed.notified();
            self.evictions.evict();
            // None may be idle now, and one a moment later.
            self.worker.runtime.timers.timeout(IDLE_PAUSE, closed).await;
        }
    }

    /// Returns when no connection is open.
    pub(crate) async fn wait_until_idle(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }
}

/// After how long connections are looked at again while none of them is idle.
const IDLE_PAUSE: Duration = Duration::from_millis(50);
