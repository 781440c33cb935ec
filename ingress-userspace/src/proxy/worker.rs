//! A worker: one thread with its own runtime, listeners, connections to endpoints and counters.
//!
//! Workers share nothing on the request path but the published table, which they read. A worker
//! that is told to end takes no new connections, finishes its requests, and is gone when the last
//! is answered or its grace time is over.

pub(crate) mod ports;

use std::cell::{Cell, RefCell};
use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use http::HeaderValue;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::proxy::downstream::admission::ClientLimit;
use crate::proxy::downstream::listen::{Datapath, Listener, Transport};
use crate::proxy::l4::tunnel::Scratch;
use crate::proxy::observe::access_log::{AccessLog, LogBuffer};
use crate::proxy::observe::metrics::RequestMetrics;
use crate::proxy::observe::metrics::series::{SharedSeries, Shelf};
use crate::proxy::observe::trace::Tracer;
use crate::proxy::observe::upstream_errors::UpstreamErrorLog;
use crate::proxy::request::client::ClientPolicy;
use crate::proxy::runtime::counters::{Counters, WorkerSnapshot};
use crate::proxy::runtime::date::Date;
use crate::proxy::runtime::drain::Drain;
use crate::proxy::runtime::limits::{CONNECTIONS_MAX, ClientLimits, DatagramLimits, Timeouts};
use crate::proxy::runtime::pipe::Pipes;
use crate::proxy::runtime::random::{Random, RequestId};
use crate::proxy::runtime::timer::Timers;
use crate::proxy::table::{RecentRoutes, Table, TableHandle};
use crate::proxy::tls::{ServerTls, UpstreamTls};
use crate::proxy::upstream::connect::Dial;
use crate::proxy::upstream::connection_sharing::{Lender, Peers};
use crate::proxy::upstream::endpoint::Endpoint;
use crate::proxy::upstream::hash_key::Balancing;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::write_batch::Departures;
use crate::proxy::worker::ports::{Order, Ports, Sockets};

/// What a worker is made of.
pub struct WorkerSpec {
    /// Its number, from 0.
    pub index: usize,
    /// The CPU that it stays on, if any.
    pub cpu: Option<usize>,
    /// Its own listening sockets.
    pub listeners: Vec<Listener>,
    /// Its own sockets of UDP services.
    pub datagram_sockets: Vec<UdpSocket>,
    /// What it serves.
    pub table: TableHandle,
    /// The other workers, which it borrows connections from.
    pub peers: Peers,
    /// Where its sockets to endpoints come from.
    pub dial: Arc<dyn Dial>,
    /// Who is told about its connections.
    pub gauge: Arc<dyn ConnectionGauge>,
    /// How it serves.
    pub options: WorkerOptions,
    /// Runs first on its thread, such as a step into another network namespace.
    pub prepare: Option<Box<dyn FnOnce() -> io::Result<()> + Send>>,
}

/// How a worker serves; the same for all workers.
#[derive(Clone, Debug, Default)]
pub struct WorkerOptions {
    /// How long it waits.
    pub timeouts: Timeouts,
    /// Who is believed about clients.
    pub clients: ClientPolicy,
    /// How much a client may have.
    pub client_limits: ClientLimits,
    /// How many UDP sessions there may be, and for how long.
    pub datagrams: DatagramLimits,
    /// How endpoints share requests where no Ingress says otherwise.
    pub balancing: Balancing,
    /// Whether its requests are counted by route.
    pub request_metrics: RequestMetrics,
    /// Where its requests are logged, if they are.
    pub access_log: Option<AccessLog>,
    /// Where its requests are told as spans, if they are.
    pub tracer: Option<Tracer>,
}

/// Is told about each downstream connection, on the worker's thread.
pub trait ConnectionGauge: Send + Sync + 'static {
    /// A connection was accepted.
    fn opened(&self, worker: usize, datapath: Datapath);
    /// A connection was closed.
    fn closed(&self, worker: usize, datapath: Datapath);
}

/// Tells nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoGauge;

impl ConnectionGauge for NoGauge {
    fn opened(&self, _: usize, _: Datapath) {}
    fn closed(&self, _: usize, _: Datapath) {}
}

/// Starts workers.
pub struct Worker;

impl Worker {
    /// Starts a thread and returns when it serves, or with what kept it from doing so.
    pub fn spawn(spec: WorkerSpec) -> io::Result<WorkerHandle> {
        let index = spec.index;
        let reader = WorkerReader::new(index);
        let (started, starting) = sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let (orders, ordered) = mpsc::unbounded_channel();
        let thread = {
            let reader = reader.clone();
            thread::Builder::new()
                .name(format!("sluice-worker-{index}"))
                .spawn(move || match prepare(spec, &reader) {
                    Ok(ready) => {
                        let _running = Running::new(reader.counters);
                        let _ = started.send(Ok(()));
                        ready.run(ordered, stopped);
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                })?
        };
        let outcome = starting.recv();
        outcome.unwrap_or_else(|_| Err(io::Error::other("worker panicked while it started")))?;
        Ok(WorkerHandle {
            reader,
            orders,
            stop: Some(stop),
            thread,
        })
    }
}

/// A running worker. It ends when it is told to, or when this is dropped.
#[derive(Debug)]
pub struct WorkerHandle {
    reader: WorkerReader,
    orders: mpsc::UnboundedSender<Order>,
    stop: Option<oneshot::Sender<Duration>>,
    thread: thread::JoinHandle<()>,
}

impl WorkerHandle {
    /// What it has counted so far.
    pub fn snapshot(&self) -> WorkerSnapshot {
        self.reader.snapshot()
    }

    pub(crate) fn reader(&self) -> WorkerReader {
        self.reader.clone()
    }

    /// The generation of the table that it serves.
    pub fn generation(&self) -> u64 {
        self.reader.counters.generation.value()
    }

    /// Has it serve further sockets.
    pub fn open(&self, listeners: Vec<Listener>, datagram_sockets: Vec<UdpSocket>) {
        // One that has ended needs none.
        let _ = self.orders.send(Order::Open(listeners, datagram_sockets));
    }

    /// Has it close its sockets of a port; connections that came by them go on.
    pub fn close(&self, transport: Transport, port: u16) {
        let _ = self.orders.send(Order::Close(transport, port));
    }

    /// Tells it to end: no new connections, requests in flight may take up to `grace`.
    pub fn shut_down(&mut self, grace: Duration) {
        if let Some(stop) = self.stop.take() {
            // An error means that it has ended already.
            let _ = stop.send(grace);
        }
    }

    /// Waits until its thread has ended; an error if that was by a panic.
    pub fn join(self) -> thread::Result<()> {
        drop(self.stop);
        self.thread.join()
    }
}

/// Reads what a worker counts, also when it has ended.
#[derive(Clone, Debug)]
pub(crate) struct WorkerReader {
    index: usize,
    counters: Arc<Counters>,
    pub(crate) series: Arc<SharedSeries>,
}

impl WorkerReader {
    fn new(index: usize) -> Self {
        Self {
            index,
            counters: Arc::default(),
            series: Arc::default(),
        }
    }

    pub(crate) fn snapshot(&self) -> WorkerSnapshot {
        self.counters.snapshot(self.index)
    }
}

/// Says that a worker's thread runs, for as long as it does.
struct Running(Arc<Counters>);

impl Running {
    fn new(counters: Arc<Counters>) -> Self {
        counters.running.set(1);
        Self(counters)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(0);
    }
}

/// What the tasks of one worker share.
pub(crate) struct WorkerState {
    index: usize,
    pub(crate) peers: Peers,
    pub(crate) table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    pub(crate) recent_routes: RefCell<RecentRoutes>,
    tls: Arc<ServerTls>,
    pub(crate) dial: Arc<dyn Dial>,
    pub(crate) upstream_tls: UpstreamTls,
    gauge: Arc<dyn ConnectionGauge>,
    pub(crate) timeouts: Timeouts,
    pub(crate) datagram_limits: DatagramLimits,
    pub(crate) clients: ClientPolicy,
    pub(crate) client_limit: ClientLimit,
    pub(crate) timers: Rc<Timers>,
    pub(crate) pool: Pool,
    pub(crate) counters: Arc<Counters>,
    pub(crate) shelf: Shelf,
    pub(crate) log: Option<LogBuffer>,
    pub(crate) tracer: Option<Tracer>,
    pub(crate) drain: Drain,
    pub(crate) departures: Departures,
    pub(crate) upstream_errors: UpstreamErrorLog,
    pub(crate) scratch: Scratch,
    pub(crate) pipes: Rc<Pipes>,
    random: Random,
    date: Date,
    open: Cell<u64>,
    closed: Notify,
}

impl WorkerState {
    pub(crate) fn tls(&self) -> &ServerTls {
        &self.tls
    }

    pub(crate) fn request_id(&self) -> RequestId {
        self.random.request_id()
    }

    /// Bytes that differ from each other's.
    pub(crate) fn nonce(&self) -> [u8; 16] {
        self.random.bytes()
    }

    /// A number for a choice, not for a secret.
    pub(crate) fn random(&self) -> u64 {
        self.random.number()
    }

    /// Now, as a response says when it was made.
    pub(crate) fn date(&self) -> HeaderValue {
        self.date.now()
    }

    pub(crate) fn index(&self) -> usize {
        self.index
    }

    pub(crate) fn open(&self, datapath: Datapath) {
        self.open.set(self.open.get() + 1);
        let counters = self.counters.datapath(datapath);
        counters.accepted.increment();
        counters.open.increment();
        self.gauge.opened(self.index, datapath);
    }

    pub(crate) fn close(&self, datapath: Datapath) {
        self.open.set(self.open.get() - 1);
        self.counters.datapath(datapath).open.decrement();
        self.gauge.closed(self.index, datapath);
        self.closed.notify_waiters();
    }

    /// Returns when one more connection may be taken.
    pub(crate) async fn wait_for_room(&self) {
        while self.open.get() >= CONNECTIONS_MAX {
            self.closed.notified().await;
        }
    }

    /// Returns when no connection is open.
    async fn wait_until_idle(&self) {
        while self.open.get() > 0 {
            self.closed.notified().await;
        }
    }

    /// Takes back a connection whose exchange is over.
    pub(crate) fn release(&self, endpoint: &Endpoint, upstream: Box<Upstream>) {
        self.pool.put(endpoint, upstream, self.timers.now());
    }

    /// Notes the generation that is served, and lets go of what has left with the last one.
    fn adopt(&self, generation: u64) {
        self.counters.generation.set(generation);
        self.pool.adopt();
        let mut table = self.table.borrow_mut();
        let table = table.load();
        table.routes().adopt(&mut self.recent_routes.borrow_mut());
        self.shelf.adopt(table.labels_left());
    }
}

/// A worker that has everything and serves nothing yet.
struct Ready {
    runtime: LocalRuntime,
    state: Rc<WorkerState>,
    sockets: Sockets,
    lender: Lender,
    generations: watch::Receiver<u64>,
}

fn prepare(spec: WorkerSpec, reader: &WorkerReader) -> io::Result<Ready> {
    let WorkerSpec {
        index,
        cpu,
        listeners,
        datagram_sockets,
        table,
        peers,
        dial,
        gauge,
        options,
        prepare,
    } = spec;
    let WorkerOptions {
        timeouts,
        clients,
        client_limits,
        datagrams: datagram_limits,
        balancing,
        request_metrics,
        access_log,
        tracer,
    } = options;
    prepare.map_or(Ok(()), |prepare| prepare())?;
    cpu.map(stay_on).transpose()?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let generations = table.generations();
    let lender = peers.join(index, &reader.counters);
    let state = Rc::new(WorkerState {
        index,
        peers,
        table: RefCell::new(table.reader()),
        recent_routes: RefCell::default(),
        tls: Arc::clone(table.tls()),
        dial,
        upstream_tls: UpstreamTls::new().map_err(io::Error::other)?,
        gauge,
        timeouts,
        datagram_limits,
        clients,
        client_limit: ClientLimit::new(client_limits),
        timers: Timers::new(),
        pool: Pool::new(balancing, timeouts, &reader.counters),
        counters: Arc::clone(&reader.counters),
        shelf: Shelf::new(Arc::clone(&reader.series), request_metrics),
        tracer,
        log: access_log.map(|log| LogBuffer::new(log, Arc::clone(&reader.counters))),
        drain: Drain::default(),
        departures: Departures::default(),
        upstream_errors: UpstreamErrorLog::default(),
        scratch: Scratch::default(),
        pipes: Pipes::new(&reader.counters),
        random: Random::new()?,
        date: Date::default(),
        open: Cell::new(0),
        closed: Notify::new(),
    });
    state.counters.generation.set(*generations.borrow());
    let inside = runtime.enter();
    let sockets = Sockets::new(listeners, datagram_sockets, &state)?;
    drop(inside);
    Ok(Ready {
        runtime,
        state,
        sockets,
        lender,
        generations,
    })
}

fn stay_on(cpu: usize) -> io::Result<()> {
    let mut cpus = rustix::thread::CpuSet::new();
    cpus.set(cpu);
    Ok(rustix::thread::sched_setaffinity(None, &cpus)?)
}

impl Ready {
    fn run(self, ordered: mpsc::UnboundedReceiver<Order>, stopped: oneshot::Receiver<Duration>) {
        let Self {
            runtime,
            state,
            sockets,
            lender,
            mut generations,
        } = self;
        let ports = runtime.spawn_local(Ports::run(Rc::clone(&state), sockets, ordered));
        runtime.spawn_local(Rc::clone(&state.timers).run());
        let departing = Rc::clone(&state);
        runtime.spawn_local(async move { departing.departures.run().await });
        runtime.spawn_local(lender.run(Rc::clone(&state)));
        let serving = Rc::clone(&state);
        runtime.spawn_local(async move { serving.pool.serve_queues(&serving).await });
        let sweeping = Rc::clone(&state);
        runtime.spawn_local(async move {
            loop {
                tokio::time::sleep(SWEEP_INTERVAL).await;
                sweeping
                    .pool
                    .sweep(sweeping.timers.now(), sweeping.timeouts.upstream_idle);
            }
        });
        let adopting = Rc::clone(&state);
        runtime.spawn_local(async move {
            while generations.changed().await.is_ok() {
                let generation = *generations.borrow_and_update();
                adopting.adopt(generation);
            }
        });
        let logging = Rc::clone(&state);
        runtime.spawn_local(async move {
            if let Some(log) = &logging.log {
                log.run().await;
            }
        });
        runtime.block_on(async {
            // Being dropped by its owner is as good as being told.
            let grace = stopped.await.unwrap_or_default();
            state.drain.begin();
            state.timers.wake_all();
            let finished = async {
                let _ = ports.await;
                state.wait_until_idle().await;
            };
            // What is not finished by then is dropped with the runtime.
            let _ = tokio::time::timeout(grace, finished).await;
        });
        // Requests that are cut off here are logged too.
        drop(runtime);
        if let Some(log) = &state.log {
            log.flush();
        }
    }
}

/// How often idle connections are looked through.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
