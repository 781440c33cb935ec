//! Builds everything, hands out handles, and owns the order of start and shutdown.
//!
//! Start: datapath without steering → source → first configuration → listeners → workers →
//! steering. A packet is steered only when the workers that it is for already serve the first
//! generation, and nothing is answered before the source has seen everything once. Shutdown runs
//! the other way.

pub(crate) mod api_server;
mod build;
mod claim;
mod last_known_good;
mod migrate;
mod names;
mod ports;
mod probes;
mod process;
mod publish;
mod reporting;
mod tickets;
mod trim;
mod wake;
mod workers;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use ingress_core::explain::explain;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tracing::{error, info, warn};

use self::build::Source;
use self::claim::Claim;
use self::last_known_good::LastKnownGood;
use self::migrate::Migration;
use self::names::Names;
use self::ports::Ports;
use self::publish::Publisher;
use crate::admin::{self, DatapathStatus, MetricsSlot, Question, Readiness, Status};
use crate::control::{Problem, Reconciler, Report, Reporter};
use crate::datapath::Datapath;
use crate::proxy::{AccessLog, LogWriter, TableHandle, Tracer, WorkerHandle};
use crate::settings::Run;
use crate::source::Observation;

/// Serves until SIGTERM or SIGINT.
pub async fn run(flags: Run) -> Result<()> {
    let _lock = process::lock(&flags.places.run_dir.path())?;
    process::raise_descriptors();
    let mut app = App::start(flags).await?;
    let outcome = app.serve().await;
    app.stop().await;
    outcome
}

struct App {
    flags: Run,
    started: Instant,
    reconciler: Reconciler<Publisher>,
    table: TableHandle,
    datapath: Option<Datapath>,
    claim: Option<Claim>,
    /// Why there is no netns datapath, where there is none.
    reason: Option<String>,
    /// Whether another daemon has it, which may end.
    is_standby: bool,
    /// None before the first configuration.
    workers: Vec<WorkerHandle>,
    ports: Ports,
    node_changes: BoxStream<'static, ()>,
    observations: mpsc::Receiver<Observation>,
    _source: Source,
    reporter: Option<Reporter>,
    last_known_good: Option<LastKnownGood>,
    /// What was observed last, to be read again with other addresses of external names.
    last: Option<Observation>,
    names: Names,
    questions: mpsc::Receiver<Question>,
    readiness: Readiness,
    metrics: MetricsSlot,
    access_log: Option<AccessLog>,
    log_writer: Option<LogWriter>,
    tracer: Option<Tracer>,
}

impl App {
    async fn start(flags: Run) -> Result<Self> {
        let build::Way {
            datapath,
            claim,
            reason,
            is_standby,
            node_changes,
        } = build::way(&flags).await?;
        let (sender, observations) = mpsc::channel(OBSERVATIONS_MAX);
        let source = build::source(&flags, sender).await?;
        let reporter = match &source {
            Source::Kubernetes(client) => reporting::start(&flags, client),
            Source::Manifests(_) => None,
        };
        let last_known_good = flags.kubernetes.last_known_good.clone();
        let last_known_good = last_known_good.map(LastKnownGood::open).transpose()?;
        let (reconciler, table) = build::configuration(&flags, &tickets::options(&flags)?)?;
        let (access_log, log_writer) = build::access_log(&flags)?.unzip();
        let tracer = build::tracer(&flags)?;
        let listener =
            admin::bind(&flags.places.run_dir.path()).context("failed to bind the admin socket")?;
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(admin::serve(listener, asking.clone()));
        let readiness = Readiness::default();
        let metrics = MetricsSlot::default();
        probes::start(&flags, &readiness, &metrics, asking).await?;
        Ok(Self {
            flags,
            started: Instant::now(),
            reconciler,
            table,
            datapath,
            claim,
            reason,
            is_standby,
            workers: Vec::new(),
            ports: Ports::default(),
            node_changes,
            observations,
            _source: source,
            reporter,
            last_known_good,
            last: None,
            names: Names::start(),
            questions,
            readiness,
            metrics,
            access_log,
            log_writer,
            tracer,
        })
    }

    async fn serve(&mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut node_changed = wake::Debounced::new(NODE_PAUSE);
        let delay = Duration::from_secs(self.flags.shutdown_delay);
        let mut ending = wake::Ending::new(self.readiness.clone());
        let patience = tokio::time::sleep(last_known_good::PATIENCE);
        tokio::pin!(patience);
        let mut is_patient = self.last_known_good.is_some();
        let mut standby = tokio::time::interval(STANDBY_PAUSE);
        let mut changed = wake::Debounced::new(TRIM_PAUSE);
        let mut ports = tokio::time::interval(PORTS_PAUSE);
        ports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => ending.ask(delay),
                _ = interrupt.recv() => ending.ask(delay),
                () = ending.due() => return Ok(()),
                Some(observation) = self.observations.recv() => {
                    is_patient = false;
                    if let Some(file) = &self.last_known_good {
                        file.save(&observation.snapshot);
                    }
                    self.observe(observation).await?;
                    changed.note();
                }
                () = changed.due() => trim::trim(),
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    let stored = self.last_known_good.as_ref().and_then(LastKnownGood::load);
                    if let Some(observation) = stored {
                        warn!("the API server is away: serving what was known last");
                        self.observe(observation).await?;
                    }
                }
                () = self.names.changed() => {
                    if let Some(observation) = self.last.take() {
                        self.observe(observation).await?;
                    }
                }
                Some(()) = self.node_changes.next() => node_changed.note(),
                () = node_changed.due() => self.follow_node_or_log().await,
                _ = standby.tick(), if self.is_standby && !self.workers.is_empty() => {
                    if let Err(error) = self.take_over().await {
                        let reason = format!("{error:#}");
                        error!(reason, "the datapath can't be taken over: ordinary sockets serve");
                        self.reason = Some(reason);
                        self.is_standby = false;
                    }
                }
                _ = ports.tick(), if self.are_ports_unsettled() => self.settle_ports().await,
                Some(question) = self.questions.recv() => self.answer(question),
            }
        }
    }

    /// Publishes what was observed; the first time starts to serve it.
    async fn observe(&mut self, mut observation: Observation) -> Result<()> {
        observation.snapshot.names = self.names.addresses();
        self.apply(&observation);
        self.last = Some(observation);
        if self.workers.is_empty() {
            return self.go_live().await;
        }
        self.follow_ports();
        self.follow_node_or_log().await;
        Ok(())
    }

    fn apply(&mut self, observation: &Observation) {
        let Observation {
            snapshot,
            diagnostics,
            problems,
        } = observation;
        let mut diagnostics = diagnostics.clone();
        diagnostics.extend(self.ports.diagnostics(&self.flags.translation()));
        let problems = problems.iter().map(Problem::error);
        let outcome = self.reconciler.apply(snapshot, &diagnostics, problems);
        self.names.want(outcome.translation.external_names);
        if let Some(reporter) = &self.reporter {
            reporter.update(Report {
                snapshot: snapshot.clone(),
                accepted: outcome.translation.accepted,
                diagnostics: outcome.diagnostics,
            });
        }
    }

    /// Opens and closes ports of services; what can't be opened is told like any mistake.
    fn follow_ports(&mut self) {
        let options = self.flags.translation();
        let before = self.ports.diagnostics(&options);
        let config = self.reconciler.config();
        (self.ports).follow(config, &self.workers, self.datapath.as_mut());
        if self.ports.diagnostics(&options) != before
            && let Some(observation) = self.last.take()
        {
            self.apply(&observation);
            self.last = Some(observation);
        }
    }

    fn are_ports_unsettled(&self) -> bool {
        let datapath = self.datapath.as_ref();
        self.ports.are_missing() || datapath.is_some_and(Datapath::is_draining)
    }

    /// Tries again to open ports, and forgets those whose last connection has ended.
    async fn settle_ports(&mut self) {
        if let Some(datapath) = &mut self.datapath
            && let Err(error) = datapath.forget_drained()
        {
            error!(%error, "closed ports can't be looked at");
        }
        self.follow_ports();
        self.follow_node_or_log().await;
    }

    /// Whoever asked may have gone.
    fn answer(&self, question: Question) {
        match question {
            Question::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Question::Explain {
                authority,
                path,
                answer,
            } => {
                let options = self.flags.translation();
                let explanation = self.last.as_ref();
                let explanation =
                    explanation.map(|last| explain(&last.snapshot, &options, &authority, &path));
                let _ = answer.send(explanation);
            }
        }
    }

    async fn go_live(&mut self) -> Result<()> {
        self.start_workers()?;
        self.follow_ports();
        if let Some(failure) = self.ports.failure_of_flags(&self.flags.translation()) {
            bail!("{failure}");
        }
        self.follow_node().await?;
        self.readiness.ready();
        self.log_serving();
        Ok(())
    }

    fn start_workers(&mut self) -> Result<()> {
        let (log, tracer) = (self.access_log.clone(), self.tracer.clone());
        let options = (self.flags).worker_options(process::machine(), log, tracer);
        let datapath = self.datapath.as_mut();
        self.workers = workers::start(&self.flags, datapath, &self.table, options)?;
        self.ports = Ports::default();
        let metrics = probes::metrics(&self.flags, &self.workers, &self.table);
        self.metrics.fill(metrics);
        Ok(())
    }

    /// Takes the datapath if the daemon that had it has ended: new workers behind it, then the
    /// old ones, on ordinary sockets, finish what they have.
    async fn take_over(&mut self) -> Result<()> {
        if Claim::take(&self.flags.places.bpffs)?.is_none() {
            return Ok(());
        }
        let way = build::way(&self.flags).await?;
        self.is_standby = way.is_standby;
        self.reason = way.reason;
        self.claim = way.claim;
        self.node_changes = way.node_changes;
        self.datapath = way.datapath;
        if self.datapath.is_none() {
            return Ok(());
        }
        let mut before = std::mem::take(&mut self.workers);
        if let Err(error) = self.start_workers() {
            self.workers = before;
            return Err(error);
        }
        self.follow_ports();
        self.follow_node_or_log().await;
        let migration = Migration::begin();
        let grace = self.flags.grace();
        for worker in &mut before {
            worker.shut_down(grace);
        }
        tokio::task::spawn_blocking(move || {
            let died = before.into_iter().filter_map(|worker| worker.join().err());
            if died.count() > 0 {
                error!("a worker had died");
            }
            drop(migration);
        });
        self.log_serving();
        Ok(())
    }

    fn log_serving(&self) {
        let Run {
            http_port,
            https_port,
            ..
        } = self.flags;
        info!(
            http_port,
            https_port,
            workers = self.workers.len(),
            datapath = self.mode(),
            reason = self.reason.as_deref().unwrap_or("-"),
            "serving"
        );
    }

    /// Ends in the order in which nothing is lost: new connections elsewhere, those in flight to
    /// their end, then everything in the kernel.
    async fn stop(mut self) {
        let grace = self.flags.grace();
        info!(grace_seconds = grace.as_secs(), "shutting down");
        self.readiness.drain();
        if let Some(datapath) = &mut self.datapath {
            datapath.stop_accepting();
        }
        let migration = Migration::begin();
        let mut workers = std::mem::take(&mut self.workers);
        for worker in &mut workers {
            worker.shut_down(grace);
        }
        let joined = tokio::task::spawn_blocking(move || {
            workers
                .into_iter()
                .filter_map(|worker| worker.join().err())
                .count()
        });
        let reporter = self.reporter.take();
        let told = async {
            if let Some(reporter) = reporter {
                reporter.stop(grace).await;
            }
        };
        let (joined, ()) = tokio::join!(joined, told);
        if joined.unwrap_or(1) > 0 {
            error!("a worker had died");
        }
        drop(migration);
        // Workers are gone, and with this nobody has it: the writer writes what it was given.
        drop(self.access_log.take());
        if let Some(writer) = self.log_writer.take() {
            writer.finish(LOG_PATIENCE);
        }
        if let Some(tracer) = self.tracer.take() {
            // Beside this runtime, which carries what is sent.
            let _ = tokio::task::spawn_blocking(move || tracer.stop(TRACE_PATIENCE)).await;
        }
        if let Some(datapath) = self.datapath.take() {
            // The ingress netns goes with everything that its sockets still have to send.
            tokio::time::sleep(LAST_BYTES_PAUSE).await;
            if let Err(error) = datapath.close().await {
                warn!(
                    error = format!("{:#}", anyhow::Error::from(error)),
                    "left something behind"
                );
            }
        }
        drop(self.claim.take());
        let _ = fs::remove_file(admin::socket_path(&self.flags.places.run_dir.path()));
        info!("stopped");
    }

    /// Nothing is steered before there are workers.
    async fn follow_node(&mut self) -> Result<()> {
        if self.workers.is_empty() {
            return Ok(());
        }
        let Some(datapath) = &mut self.datapath else {
            return Ok(());
        };
        let endpoints = self.reconciler.endpoint_addresses();
        Ok(datapath.reconcile(&endpoints).await?)
    }

    /// The last good state stays in force; the next change tries again.
    async fn follow_node_or_log(&mut self) {
        if let Err(error) = self.follow_node().await {
            error!(
                error = format!("{error:#}"),
                "the datapath can't follow the node"
            );
        }
    }

    fn mode(&self) -> &'static str {
        if self.datapath.is_some() {
            "netns"
        } else {
            "host"
        }
    }

    fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            state: self.readiness.name(),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: self.reconciler.generation(),
            config: self.reconciler.summary(),
            datapath: DatapathStatus {
                mode: self.mode(),
                reason: self.reason.clone(),
                state: self
                    .datapath
                    .as_ref()
                    .map(Datapath::status)
                    .unwrap_or_default(),
            },
            workers: self.workers.iter().map(WorkerHandle::snapshot).collect(),
            problems: self.reconciler.problems(),
        }
    }
}

/// Observations waiting for the loop. What happens while one waits becomes part of the next.
const OBSERVATIONS_MAX: usize = 1;
/// Status questions waiting for the loop.
const QUESTIONS_MAX: usize = 16;
/// How long after a change memory is given back.
const TRIM_PAUSE: Duration = Duration::from_secs(1);
/// How long the trace collector gets to take the last spans.
const TRACE_PATIENCE: Duration = Duration::from_secs(2);
/// How long closed connections have for their last bytes, before the netns goes.
const LAST_BYTES_PAUSE: Duration = Duration::from_secs(1);
/// How long the last lines of the access log may take.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
/// How long after a port could not be opened it is tried again.
const PORTS_PAUSE: Duration = Duration::from_secs(3);
/// How often a daemon without datapath looks whether it can have it.
const STANDBY_PAUSE: Duration = Duration::from_millis(200);
/// Changes of devices, addresses and routes come in bursts; a burst is handled once.
const NODE_PAUSE: Duration = Duration::from_millis(20);
