//! A worker: one thread with its own runtime, listeners, connections to endpoints and counters.
//!
//! Workers share nothing on the request path but the published table, which they read. A worker
//! that is told to end takes no new connections, finishes its requests, and is gone when the last
//! is answered or its grace time is over.

pub(crate) mod contexts;
pub(crate) mod exposition;
pub(crate) mod ports;
mod process;

use std::io;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::sync::{mpsc, oneshot, watch};

use crate::proxy::downstream::context::ConnectionGauge;
use crate::proxy::downstream::listen::Listener;
use crate::proxy::observe::access_log::AccessLog;
use crate::proxy::observe::metrics::RequestMetrics;
use crate::proxy::observe::metrics::series::SharedSeries;
use crate::proxy::observe::tail::Tail;
use crate::proxy::observe::trace::Tracer;
use crate::proxy::request::authenticate::Checks;
use crate::proxy::runtime::client_policy::ClientPolicy;
use crate::proxy::runtime::counters::{Counters, WorkerSnapshot};
use crate::proxy::runtime::limits::{ClientLimits, DatagramLimits, MemoryLimits, Timeouts};
use crate::proxy::runtime::transport::Transport;
use crate::proxy::table::TableHandle;
use crate::proxy::upstream::connect::Dial;
use crate::proxy::upstream::connection_sharing::{Lender, Peers};
use crate::proxy::upstream::hash_key::Balancing;
use crate::proxy::worker::contexts::{Contexts, UpstreamParts};
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
    /// How much memory may be held for clients.
    pub memory: MemoryLimits,
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
    /// The watchers of its requests.
    pub tail: Tail,
    /// The state of client checks that all workers share.
    pub checks: Checks,
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

/// A worker that has everything and serves nothing yet.
struct Ready {
    threads: LocalRuntime,
    contexts: Contexts,
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
    prepare.map_or(Ok(()), |prepare| prepare())?;
    cpu.map(stay_on).transpose()?;
    let threads = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    let lender = peers.join(index, &reader.counters);
    let generations = table.generations();
    let upstream = UpstreamParts { peers, dial };
    let contexts = Contexts::new(reader, options, &table, upstream, gauge)?;
    let counters = &reader.counters;
    counters.generation.set(*generations.borrow());
    let inside = threads.enter();
    let sockets = Sockets::new(listeners, datagram_sockets, &contexts)?;
    drop(inside);
    Ok(Ready {
        threads,
        contexts,
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
            threads,
            contexts,
            sockets,
            lender,
            mut generations,
        } = self;
        let contexts = Rc::new(contexts);
        let runtime = Rc::clone(&contexts.runtime);
        let observers = Rc::clone(&contexts.observers);
        let accepting = Rc::clone(&contexts.accepting);
        let upstreams = Rc::clone(&contexts.upstreams);
        let serving = Ports::run(Rc::clone(&contexts), sockets, ordered);
        let ports = threads.spawn_local(serving);
        threads.spawn_local(Rc::clone(&runtime.timers).run());
        threads.spawn_local(lender.run(Rc::clone(&upstreams)));
        threads.spawn_local(Rc::clone(&upstreams).run_write_batch());
        threads.spawn_local(Rc::clone(&upstreams).run_queues());
        threads.spawn_local(upstreams.run_sweep());
        threads.spawn_local(async move {
            while generations.changed().await.is_ok() {
                let generation = *generations.borrow_and_update();
                contexts.adopt(generation);
            }
        });
        let logging = Rc::clone(&observers);
        threads.spawn_local(async move {
            if let Some(log) = &logging.log {
                log.run().await;
            }
        });
        threads.block_on(async {
            // Being dropped by its owner is as good as being told.
            let grace = stopped.await.unwrap_or_default();
            runtime.drain.begin(grace);
            runtime.timers.wake_all();
            let finished = async {
                let _ = ports.await;
                accepting.wait_until_idle().await;
            };
            // What is not finished by then is dropped with the runtime.
            let _ = tokio::time::timeout(grace, finished).await;
        });
        // Requests that are cut off here are logged too.
        drop(threads);
        if let Some(log) = &observers.log {
            log.flush();
        }
    }
}
