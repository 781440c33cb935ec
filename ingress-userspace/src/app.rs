//! Builds everything, hands out handles, and owns the order of start and shutdown.
//!
//! Start: datapath without steering → source → first configuration → listeners → workers →
//! steering. A packet is steered only when the workers that it is for already serve the first
//! generation, and nothing is answered before the source has seen everything once. Shutdown runs
//! the other way.

mod adopted;
pub(crate) mod api_server;
mod build;
mod certificates;
mod dashboard;
mod denied;
pub mod detach;
pub(crate) mod helper;
pub mod intruder;
mod last_known_good;
mod migrate;
mod names;
mod ports;
mod probes;
mod process;
mod publish;
mod reporting;
mod run_loop;
mod shutdown;
mod takeover;
mod tickets;
mod trim;
mod wake;
mod webhook;
mod workers;

use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};

use self::adopted::Adopted;
use self::build::{DatapathChoice, HelperAndEvents, Source};
use self::dashboard::Entrance;
use self::denied::DeniedNetworks;
use self::helper::{Datapath, Helper};
use self::last_known_good::LastKnownGood;
use self::names::Names;
use self::ports::Ports;
use self::publish::Publisher;
use crate::acme::Orders;
use crate::admin::webhook::Served;
use crate::admin::{
    self, Admin, AdminRequest, DatapathMetrics, DatapathStatus, FrontendStatus, MetricsSlot,
    Questions, Readiness, Status,
};
use crate::confine;
use crate::control::{Problem, Reconciler, Reporter};
use crate::datapath::Status as DatapathState;
use crate::proxy::{AccessLog, LogWriter, TableHandle, Tail, Tracer, WorkerHandle};
use crate::settings::Run;
use crate::source::Observation;
use crate::telemetry;

/// Serves until SIGTERM or SIGINT.
///
/// The process gives up its privileges before it starts a thread, even the one that writes the log:
/// each thread has privileges of its own, and those that exist already would keep theirs.
pub async fn run(flags: Run) -> Result<()> {
    telemetry::check(&flags.log).map_err(anyhow::Error::msg)?;
    let bounded = confine::keep_privileges_from_growing();
    let _lock = process::lock(&flags.places.run_dir.path())?;
    let helper = build::helper(&flags)?;
    confine::give_up_privileges(flags.confine_workers)
        .context("failed to give up the privileges that the daemon does not need")?;
    let _log = telemetry::init(&flags.log, flags.log_format).map_err(anyhow::Error::msg)?;
    if let Err(error) = bounded {
        tracing::warn!(%error, "a program that this process starts may gain privileges");
    }
    process::raise_descriptors();
    let mut app = App::start(flags, helper).await?;
    let outcome = app.serve().await;
    Box::pin(app.stop()).await;
    outcome
}

/// Serves another process of this executable, which runs [`run`], as its helper.
///
/// # Errors
///
/// An error if no such process has started this one.
pub async fn serve_as_helper() -> Result<()> {
    confine::keep_privileges_from_growing()?;
    process::raise_descriptors();
    helper::serve().await
}

struct App {
    flags: Run,
    started: Instant,
    started_at: Timestamp,
    reconciler: Reconciler<Publisher>,
    table: TableHandle,
    choice: DatapathChoice,
    /// None before the first configuration.
    workers: Vec<WorkerHandle>,
    ports: Ports,
    adopted: Adopted,
    observations: mpsc::Receiver<Observation>,
    _source: Source,
    reporter: Option<Reporter>,
    /// The ACME client.
    orders: Option<Orders>,
    last_known_good: Option<LastKnownGood>,
    /// What was observed last, to be read again with other addresses of external names.
    last: Option<Observation>,
    names: Names,
    questions: mpsc::Receiver<AdminRequest>,
    readiness: Readiness,
    metrics: MetricsSlot,
    tail: Tail,
    telemetry: Telemetry,
    denied: DeniedNetworks,
    /// The way into the dashboard, if there is one.
    dashboard: Option<Entrance>,
    /// The configuration that the webhook reviews objects against.
    judged_beside: watch::Sender<Served>,
}

/// Reports about requests: the access log and traces.
struct Telemetry {
    access_log: Option<AccessLog>,
    log_writer: Option<LogWriter>,
    tracer: Option<Tracer>,
}

impl Telemetry {
    fn start(flags: &Run) -> Result<Self> {
        let (access_log, log_writer) = build::access_log(flags)?.unzip();
        let tracer = build::tracer(flags)?;
        Ok(Self {
            access_log,
            log_writer,
            tracer,
        })
    }
}

impl App {
    async fn start(flags: Run, helper: Option<HelperAndEvents>) -> Result<Self> {
        let choice = build::choose_datapath(&flags, helper)?;
        let (sender, observations) = mpsc::channel(OBSERVATIONS_MAX);
        let source = build::source(&flags, sender).await?;
        let reporter = match &source {
            Source::Kubernetes(client) => reporting::start(&flags, client),
            Source::Manifests(_) => None,
        };
        let orders = certificates::start(&flags, &source, reporter.as_ref())?;
        let last_known_good = flags.kubernetes.last_known_good.clone();
        let last_known_good = last_known_good.map(LastKnownGood::open).transpose()?;
        let (reconciler, table) = build::configuration(&flags, &tickets::options(&flags)?)?;
        let telemetry = Telemetry::start(&flags)?;
        let listener =
            admin::bind(&flags.places.run_dir.path()).context("failed to bind the admin socket")?;
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        let readiness = Readiness::default();
        let metrics = MetricsSlot::default();
        let tail = Tail::new(flags.worker_count() as usize);
        let asked = Questions::new(asking.clone(), metrics.clone());
        let dashboard = dashboard::start(&flags, asked, tail.clone());
        let dashboard = dashboard.context("failed to start the dashboard")?;
        let admin = Admin::new(readiness.clone(), metrics.clone(), tail.clone(), asking);
        tokio::spawn(admin.clone().serve(listener));
        probes::start(&flags, admin).await?;
        let judged_beside = watch::Sender::new(None);
        let reviewed = judged_beside.subscribe();
        let started = webhook::start(&flags, &source, reporter.as_ref(), reviewed).await;
        started.context("failed to start the validating webhook")?;
        let denied = DeniedNetworks::sparing(flags.clients.policy().trusted);
        Ok(Self {
            adopted: Adopted::new(&flags),
            denied,
            dashboard,
            flags,
            started: Instant::now(),
            started_at: Timestamp::now(),
            reconciler,
            table,
            choice,
            workers: Vec::new(),
            ports: Ports::default(),
            observations,
            _source: source,
            reporter,
            orders,
            last_known_good,
            last: None,
            names: Names::start(),
            questions,
            readiness,
            metrics,
            tail,
            telemetry,
            judged_beside,
        })
    }

    fn mode(&self) -> &'static str {
        if self.choice.datapath.is_some() {
            "netns"
        } else {
            "host"
        }
    }

    fn datapath_state(&self) -> DatapathState {
        let state = self.choice.datapath.as_ref().map(Datapath::status);
        state
            .transpose()
            .unwrap_or_else(|error| {
                tracing::error!(
                    error = format!("{error:#}"),
                    "failed to inspect the datapath"
                );
                None
            })
            .unwrap_or_default()
    }

    fn datapath_metrics(&self) -> DatapathMetrics {
        let (denied_by_admin, denied_by_configuration) = self.denied.counts();
        DatapathMetrics {
            mode: self.mode(),
            state: self.datapath_state(),
            denied_by_admin,
            denied_by_configuration,
            adopted: self.adopted.services(),
        }
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = self.reconciler.problems();
        let dropped = telemetry::dropped_lines();
        if dropped > 0 {
            let message =
                format!("{dropped} lines of the log were lost: nobody read standard error");
            problems.push(Problem::warning(message));
        }
        problems
    }

    fn status(&self) -> Status {
        let mut datapath = self.datapath_state();
        let of_node = std::mem::take(&mut datapath.frontends);
        let of_node = of_node.iter().map(FrontendStatus::from);
        let mut frontends: Vec<_> = of_node.collect();
        frontends.extend(self.adopted.status(self.choice.datapath.is_some()));
        let (cpu_seconds, resident_bytes) = process::usage().unwrap_or_default();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            state: self.readiness.name(),
            started_at: self.started_at.to_string(),
            uptime_seconds: self.started.elapsed().as_secs(),
            cpu_seconds,
            resident_bytes,
            generation: self.reconciler.generation(),
            config: self.reconciler.summary(),
            datapath: DatapathStatus {
                mode: self.mode(),
                reason: self.choice.reason.clone(),
                helper_pid: self.choice.helper.as_ref().map(Helper::pid),
                state: datapath,
            },
            frontends,
            workers: self.workers.iter().map(WorkerHandle::snapshot).collect(),
            health_checks: self.table.probed_backends(),
            ignored_annotations: self.flags.meaning.ignored_annotations.clone(),
            problems: self.problems(),
        }
    }
}

/// Observations waiting for the loop. What happens while one waits becomes part of the next.
const OBSERVATIONS_MAX: usize = 1;
/// Status questions waiting for the loop.
const QUESTIONS_MAX: usize = 16;
