//! The state of the daemon that streams and pages share. It is read every second while a browser
//! watches, else every 15 seconds, and earlier states are remembered.
//!
//! Invariant: however many browsers watch, the app's loop and the workers are asked once a second.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use procfs::WithCurrentSystemInfo as _;
use procfs::process::Process;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::admin::{Questions, Status};
use crate::api::{Generation, LastUse, Problem, Sample, Traffic};
use crate::proxy::TrafficBy;

/// One look at the daemon.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Its sums; `None` before the first look.
    pub(super) sample: Option<Arc<Sample>>,
    /// Its status, by field.
    pub(super) status: Arc<Map<String, Value>>,
    /// Requests by host, backend and route.
    pub(super) hosts: Arc<Vec<Traffic>>,
    pub(super) backends: Arc<Vec<Traffic>>,
    pub(super) routes: Arc<Vec<Traffic>>,
    /// For how long the app's loop has not answered, in seconds.
    pub(super) stalled_seconds: u64,
}

/// Looks at the daemon for all browsers.
#[derive(Clone)]
pub(super) struct Feed(Arc<Shared>);

struct Shared {
    questions: Questions,
    looks: watch::Sender<Arc<Look>>,
    watchers: AtomicUsize,
    woken: Notify,
    memory: Mutex<Memory>,
}

/// What is known from earlier states.
#[derive(Default)]
struct Memory {
    samples: VecDeque<Arc<Sample>>,
    generations: VecDeque<Generation>,
    problems: HashMap<String, Problem>,
    used: HashMap<String, (u64, Option<String>)>,
}

impl Feed {
    pub(super) fn new(questions: Questions) -> Self {
        Self(Arc::new(Shared {
            questions,
            looks: watch::Sender::default(),
            watchers: AtomicUsize::new(0),
            woken: Notify::new(),
            memory: Mutex::default(),
        }))
    }

    /// Looks until it is dropped.
    pub(super) async fn run(self) {
        let shared = &self.0;
        let mut answered = Instant::now();
        loop {
            let begun = Instant::now();
            self.look(&mut answered).await;
            let pause = || {
                let is_watched = shared.watchers.load(Ordering::Relaxed) > 0;
                let pause = if is_watched { INTERVAL } else { IDLE_INTERVAL };
                pause.saturating_sub(begun.elapsed())
            };
            tokio::select! {
                () = sleep(pause()) => {}
                () = shared.woken.notified() => sleep(pause()).await,
            }
        }
    }

    /// Watches until the guard is dropped.
    pub(super) fn watch(&self) -> Watching {
        if self.0.watchers.fetch_add(1, Ordering::Relaxed) == 0 {
            self.0.woken.notify_one();
        }
        Watching {
            feed: self.clone(),
            looks: self.0.looks.subscribe(),
        }
    }

    /// The samples that are remembered, the oldest first.
    pub(super) fn samples(&self) -> Vec<Arc<Sample>> {
        self.memory().samples.iter().cloned().collect()
    }

    /// The published configurations that are remembered, the oldest first.
    pub(super) fn generations(&self) -> Vec<Generation> {
        self.memory().generations.iter().cloned().collect()
    }

    /// The problems of the last look, errors first.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<_> = self.memory().problems.values().cloned().collect();
        problems.sort_by(|a, b| (&a.severity, &a.text).cmp(&(&b.severity, &b.text)));
        problems
    }

    /// When routes last had a request.
    pub(super) fn last_uses(&self) -> Vec<LastUse> {
        let memory = self.memory();
        let used = memory.used.iter().filter_map(|(route, (_, time))| {
            Some(LastUse {
                route: route.clone(),
                time: time.clone()?,
            })
        });
        used.collect()
    }

    async fn look(&self, answered: &mut Instant) {
        let shared = &self.0;
        let questions = &shared.questions;
        let traffic = async |by| Arc::new(questions.traffic(by).await.unwrap_or_default());
        let hosts = traffic(TrafficBy::Host).await;
        let backends = traffic(TrafficBy::Backend).await;
        let routes = traffic(TrafficBy::Route).await;
        let now = Timestamp::now().to_string();
        let status = timeout(LOOP_TIME_MAX, questions.status()).await;
        let mut look = Look {
            hosts,
            backends,
            routes,
            ..Look::default()
        };
        let mut memory = self.memory();
        memory.note_uses(&look.routes, &now);
        if let Ok(Some(status)) = status {
            *answered = Instant::now();
            let sample = Arc::new(sample(&status, &look.hosts, now.clone()));
            memory.note_sample(&sample);
            memory.note_status(&status, &now);
            look.sample = Some(sample);
            if let Ok(Value::Object(status)) = serde_json::to_value(&status) {
                look.status = Arc::new(status);
            }
        } else {
            let last = shared.looks.borrow();
            look.sample.clone_from(&last.sample);
            look.status = Arc::clone(&last.status);
            look.stalled_seconds = answered.elapsed().as_secs().max(1);
        }
        drop(memory);
        shared.looks.send_replace(Arc::new(look));
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stream that watches.
pub(super) struct Watching {
    feed: Feed,
    looks: watch::Receiver<Arc<Look>>,
}

impl Watching {
    /// The next look; the newest one if some were missed. `None` if there will be no other.
    pub(super) async fn next(&mut self) -> Option<Arc<Look>> {
        self.looks.changed().await.ok()?;
        Some(Arc::clone(&self.looks.borrow_and_update()))
    }

    /// The last look.
    pub(super) fn last(&self) -> Arc<Look> {
        Arc::clone(&self.looks.borrow())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.feed.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Memory {
    fn note_sample(&mut self, sample: &Arc<Sample>) {
        if self.samples.len() >= SAMPLES_MAX {
            self.samples.pop_front();
        }
        self.samples.push_back(Arc::clone(sample));
    }

    fn note_uses(&mut self, routes: &[Traffic], now: &str) {
        let mut before = std::mem::take(&mut self.used);
        for route in routes.iter().take(USES_MAX) {
            let (requests, time) = before.remove(&route.name).unwrap_or_default();
            let time = if route.requests > requests {
                Some(now.to_owned())
            } else {
                time
            };
            self.used.insert(route.name.clone(), (route.requests, time));
        }
    }

    fn note_status(&mut self, status: &Status, now: &str) {
        let mut before = std::mem::take(&mut self.problems);
        for problem in &status.problems {
            let since = before.remove(&problem.text).map(|before| before.since);
            let known = Problem {
                severity: problem.severity.clone(),
                object: problem.object.clone(),
                field: problem.field.clone(),
                text: problem.text.clone(),
                since: since.unwrap_or_else(|| now.to_owned()),
            };
            self.problems.insert(problem.text.clone(), known);
        }
        let last = self.generations.back();
        if status.generation == 0 || last.is_some_and(|last| last.generation == status.generation) {
            return;
        }
        if self.generations.len() >= GENERATIONS_MAX {
            self.generations.pop_front();
        }
        let config = status.config;
        self.generations.push_back(Generation {
            generation: status.generation,
            time: now.to_owned(),
            hosts: config.hosts,
            rules: config.rules,
            backends: config.backends,
            endpoints: config.endpoints,
            certificates: config.certificates,
        });
    }
}

fn sample(status: &Status, hosts: &[Traffic], time: String) -> Sample {
    let (cpu_seconds, resident_bytes) = process().unwrap_or_default();
    let mut sample = Sample {
        time,
        state: status.state.to_owned(),
        generation: status.generation,
        cpu_seconds,
        resident_bytes,
        ..Sample::default()
    };
    for worker in &status.workers {
        sample.requests_open += worker.requests_open;
        for datapath in [&worker.netns, &worker.host] {
            sample.requests += datapath.requests;
            sample.client_errors += datapath.responses_4xx;
            sample.server_errors += datapath.responses_5xx;
            sample.connections_accepted += datapath.connections_accepted;
            sample.connections_open += datapath.connections_open;
            sample.tls_handshake_failures += datapath.tls_handshake_failures;
        }
    }
    for host in hosts {
        let buckets = &mut sample.duration_buckets;
        buckets.resize(buckets.len().max(host.duration_buckets.len()), 0);
        for (sum, more) in buckets.iter_mut().zip(&host.duration_buckets) {
            *sum += more;
        }
    }
    sample
}

/// CPU time in seconds and memory in bytes of this process; `None` where `/proc` cannot be read.
fn process() -> Option<(f64, u64)> {
    let stat = Process::myself().ok()?.stat().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of CPU time are far below 2^52"
    )]
    let cpu_seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
    Some((cpu_seconds, stat.rss_bytes().get()))
}

/// Between two looks while a browser watches.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks otherwise.
const IDLE_INTERVAL: Duration = Duration::from_secs(15);
/// For how long the app's loop may be busy.
const LOOP_TIME_MAX: Duration = Duration::from_millis(900);
/// A quarter of an hour, one a second.
const SAMPLES_MAX: usize = 900;
const GENERATIONS_MAX: usize = 64;
/// Routes whose last use is remembered.
const USES_MAX: usize = 100_000;
