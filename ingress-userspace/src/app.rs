//! Builds everything, hands out handles, and owns the order of start and shutdown.
//!
//! Start: datapath without steering → configuration → listeners → workers → steering. A packet is
//! steered only when the workers that it is for already serve the first generation. Shutdown runs
//! the other way.

mod build;
mod publish;
mod wake;
mod workers;

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use rustix::fs::{FlockOperation, flock};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use self::publish::Publisher;
use crate::admin::{self, DatapathStatus, Question, Status};
use crate::control::{Problem, Reconciler};
use crate::datapath::Datapath;
use crate::proxy::WorkerHandle;
use crate::settings::Run;
use crate::source::manifests::{Loaded, Watch};

/// Serves until SIGTERM or SIGINT.
pub async fn run(flags: Run) -> Result<()> {
    let _lock = lock(&flags.places.run_dir.path())?;
    let mut app = App::start(flags).await?;
    let outcome = app.serve().await;
    app.stop().await;
    outcome
}

struct App {
    flags: Run,
    started: Instant,
    reconciler: Reconciler<Publisher>,
    datapath: Option<Datapath>,
    /// Why there is no netns datapath, where there is none.
    reason: Option<String>,
    workers: Vec<WorkerHandle>,
    node_changes: BoxStream<'static, ()>,
    loaded: mpsc::Receiver<Loaded>,
    _watch: Watch,
    questions: mpsc::Receiver<Question>,
}

impl App {
    async fn start(flags: Run) -> Result<Self> {
        let build::Way {
            mut datapath,
            reason,
            node_changes,
        } = build::way(&flags).await?;
        let (sender, loaded) = mpsc::channel(LOADED_MAX);
        let (first, watch) = build::source(&flags, sender)?;
        let (mut reconciler, table) = build::configuration(&flags)?;
        apply(&mut reconciler, &first);
        let workers = workers::start(&flags, datapath.as_mut(), &table)?;
        let listener =
            admin::bind(&flags.places.run_dir.path()).context("failed to bind the admin socket")?;
        let (asking, questions) = mpsc::channel(QUESTIONS_MAX);
        tokio::spawn(admin::serve(listener, asking));
        let mut app = Self {
            flags,
            started: Instant::now(),
            reconciler,
            datapath,
            reason,
            workers,
            node_changes,
            loaded,
            _watch: watch,
            questions,
        };
        app.follow_node().await?;
        let Run {
            http_port,
            https_port,
            ..
        } = app.flags;
        info!(
            http_port,
            https_port,
            workers = app.workers.len(),
            datapath = app.mode(),
            reason = app.reason.as_deref().unwrap_or("-"),
            "serving"
        );
        Ok(app)
    }

    async fn serve(&mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut node_changed = wake::Debounced::new(NODE_PAUSE);
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                Some(loaded) = self.loaded.recv() => {
                    apply(&mut self.reconciler, &loaded);
                    self.follow_node_or_log().await;
                }
                Some(()) = self.node_changes.next() => node_changed.note(),
                () = node_changed.due() => self.follow_node_or_log().await,
                Some(question) = self.questions.recv() => {
                    // Whoever asked may have gone.
                    let _ = question.send(self.status());
                }
            }
        }
    }

    /// Ends in the order in which nothing is lost: new connections elsewhere, those in flight to
    /// their end, then everything in the kernel.
    async fn stop(mut self) {
        let grace = self.flags.grace();
        info!(grace_seconds = grace.as_secs(), "shutting down");
        if let Some(datapath) = &mut self.datapath {
            datapath.stop_accepting();
        }
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
        if joined.await.unwrap_or(1) > 0 {
            error!("a worker had died");
        }
        if let Some(datapath) = self.datapath.take()
            && let Err(error) = datapath.close().await
        {
            warn!(
                error = format!("{:#}", anyhow::Error::from(error)),
                "left something behind"
            );
        }
        let _ = fs::remove_file(admin::socket_path(&self.flags.places.run_dir.path()));
        info!("stopped");
    }

    async fn follow_node(&mut self) -> Result<()> {
        let endpoints = self.reconciler.endpoint_addresses();
        match &mut self.datapath {
            Some(datapath) => Ok(datapath.reconcile(&endpoints).await?),
            None => Ok(()),
        }
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

fn apply(reconciler: &mut Reconciler<Publisher>, loaded: &Loaded) {
    let problems = loaded
        .problems
        .iter()
        .map(|problem| Problem::error(problem.to_string()));
    reconciler.apply(&loaded.snapshot, problems);
}

/// One daemon for each run directory: two would fight over the same names.
fn lock(run_dir: &Path) -> Result<File> {
    fs::create_dir_all(run_dir)
        .with_context(|| format!("failed to make `{}` (see --run-dir)", run_dir.display()))?;
    let path = run_dir.join("lock");
    let file =
        File::create(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another sluice runs with the run directory `{}`",
            run_dir.display()
        )
    })?;
    Ok(file)
}

/// Snapshots waiting for the loop; the source waits when there are more.
const LOADED_MAX: usize = 4;
/// Status questions waiting for the loop.
const QUESTIONS_MAX: usize = 16;
/// Changes of devices, addresses and routes come in bursts; a burst is handled once.
const NODE_PAUSE: Duration = Duration::from_millis(20);
