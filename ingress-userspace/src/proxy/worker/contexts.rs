//! The contexts of a worker, made from the lowest floor to the highest.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crate::proxy::downstream::context::{AcceptContext, ConnectionGauge};
use crate::proxy::l4::udp::{DatagramContext, UdpShares};
use crate::proxy::observe::access_log::LogBuffer;
use crate::proxy::observe::context::Observers;
use crate::proxy::observe::metrics::series::SeriesMap;
use crate::proxy::observe::upstream_errors::UpstreamErrorLog;
use crate::proxy::request::authenticate::KnownClients;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::runtime::client_policy::ClientPolicy;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::limits::Timeouts;
use crate::proxy::table::{Table, TableHandle, Tables};
use crate::proxy::tls::upstream::UpstreamTls;
use crate::proxy::upstream::connect::Dial;
use crate::proxy::upstream::connection_sharing::Peers;
use crate::proxy::upstream::context::Upstreams;
use crate::proxy::upstream::pool::Pool;
use crate::proxy::upstream::write_batch::WriteBatch;
use crate::proxy::worker::{WorkerOptions, WorkerReader, process};

/// The contexts of a worker, one for each floor that has its own.
pub(crate) struct Contexts {
    pub(crate) runtime: Rc<Runtime>,
    pub(crate) observers: Rc<Observers>,
    pub(crate) tables: Rc<Tables>,
    pub(crate) upstreams: Rc<Upstreams>,
    pub(crate) accepting: Rc<AcceptContext>,
    pub(crate) datagrams: Rc<DatagramContext>,
    /// What the flags say, without what the configuration says in place of them.
    flags: ProcessFlags,
}

/// The flags that the operator's ConfigMap may speak in place of.
struct ProcessFlags {
    clients: ClientPolicy,
    timeouts: Timeouts,
}

/// The parts that a worker's upstream context is built from.
pub(crate) struct UpstreamParts {
    pub(crate) peers: Peers,
    pub(crate) dial: Arc<dyn Dial>,
}

impl Contexts {
    /// The contexts of the worker that `reader` reads.
    ///
    /// # Errors
    ///
    /// An I/O error if the kernel gives no random seed, or if TLS towards endpoints cannot be set up.
    pub(crate) fn new(
        reader: &WorkerReader,
        options: WorkerOptions,
        table: &TableHandle,
        UpstreamParts { peers, dial }: UpstreamParts,
        gauge: Arc<dyn ConnectionGauge>,
    ) -> io::Result<Self> {
        let counters = &reader.counters;
        let runtime = Runtime::new(reader.index, options.timeouts, options.memory, counters)?;
        let upstreams = Rc::new(Upstreams {
            runtime: Rc::clone(&runtime),
            pool: Pool::new(options.balancing, options.timeouts, counters),
            peers,
            dial,
            tls: UpstreamTls::new().map_err(io::Error::other)?,
            write_batch: WriteBatch::default(),
        });
        let log = options.access_log;
        let observers = Rc::new(Observers {
            runtime: Rc::clone(&runtime),
            labels: Arc::clone(table.current().labels()),
            shelf: SeriesMap::new(Arc::clone(&reader.series), options.request_metrics),
            log: log.map(|log| LogBuffer::new(log, Arc::clone(counters))),
            tracer: options.tracer,
            tail: options.tail,
            upstream_errors: UpstreamErrorLog::default(),
        });
        let tables = Tables::new(table);
        let clients = options.clients;
        let datagrams = Rc::new(DatagramContext {
            runtime: Rc::clone(&runtime),
            tables: Rc::clone(&tables),
            upstreams: Rc::clone(&upstreams),
            clients: Rc::new(clients.clone()),
            limits: options.datagrams,
            shares: RefCell::new(UdpShares::new(options.datagrams.sessions_max)),
        });
        let worker = WorkerContext::new(
            &runtime,
            &observers,
            &tables,
            &upstreams,
            clients.clone(),
            options.client_limits,
            KnownClients::new(options.checks)?,
        );
        let accepting = AcceptContext::new(
            worker,
            Arc::clone(table.tls()),
            gauge,
            options.memory.connections_max,
        );
        let contexts = Self {
            runtime,
            observers,
            tables,
            upstreams,
            accepting,
            datagrams,
            flags: ProcessFlags {
                clients,
                timeouts: options.timeouts,
            },
        };
        contexts.follow_process(&table.current());
        Ok(contexts)
    }

    /// Takes over what a configuration says in place of flags.
    fn follow_process(&self, table: &Table) {
        let settings = &table.config().process;
        let worker = &self.accepting.worker;
        worker.set_clients(process::policy(&self.flags.clients, settings));
        let timeouts = process::timeouts(self.flags.timeouts, settings);
        self.runtime.idle_timeouts.set(timeouts);
    }

    /// Notes the generation that is served, and drops the state of objects that it no longer has.
    pub(crate) fn adopt(&self, generation: u64) {
        self.runtime.counters.generation.set(generation);
        self.follow_process(self.tables.current.borrow_mut().load());
        self.upstreams.pool.adopt();
        let labels_left = self.tables.adopt();
        self.observers.shelf.adopt(labels_left);
    }
}
