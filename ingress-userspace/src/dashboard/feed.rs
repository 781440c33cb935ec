//! The state of the daemon, or of all nodes, that streams and pages share. It is read every second while a
//! browser watches, else every 15 seconds, and earlier states are remembered.
//!
//! Invariant: however many browsers watch, the app's loop and the workers are asked once a second.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use super::nodes::{Joined, Nodes};
use super::sample::sample;
use crate::admin::Questions;
use crate::api::{ConfigCounts, Generation, LastUse, Problem, Sample, Traffic};
use crate::proxy::TrafficBy;

/// Where looks come from.
pub(super) enum Source {
    /// The daemon that serves the dashboard.
    Daemon(Questions),
    /// The daemons of several nodes, joined.
    Nodes(Arc<Nodes>),
}

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

impl From<Joined> for Look {
    fn from(joined: Joined) -> Self {
        Self {
            sample: Some(Arc::new(joined.sample)),
            status: Arc::new(joined.status),
            hosts: Arc::new(joined.hosts),
            backends: Arc::new(joined.backends),
            routes: Arc::new(joined.routes),
            stalled_seconds: 0,
        }
    }
}

/// Looks at the daemon for all browsers.
#[derive(Clone)]
pub(super) struct Feed(Arc<Shared>);

struct Shared {
    source: Source,
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
    /// The last generation of each node.
    published: HashMap<Option<String>, u64>,
    problems: HashMap<String, Problem>,
    used: HashMap<String, (u64, Option<String>)>,
}

impl Feed {
    pub(super) fn new(source: Source) -> Self {
        Self(Arc::new(Shared {
            source,
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
            let pause = || self.interval().saturating_sub(begun.elapsed());
            tokio::select! {
                () = sleep(pause()) => {}
                () = shared.woken.notified() => sleep(pause()).await,
            }
        }
    }

    fn interval(&self) -> Duration {
        if self.0.watchers.load(Ordering::Relaxed) > 0 {
            INTERVAL
        } else {
            IDLE_INTERVAL
        }
    }

    /// Where looks come from.
    pub(super) fn source(&self) -> &Source {
        &self.0.source
    }

    /// Whether looks join several nodes.
    pub(super) fn is_of_nodes(&self) -> bool {
        match self.0.source {
            Source::Daemon(_) => false,
            Source::Nodes(_) => true,
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
        let now = Timestamp::now().to_string();
        let look = match &self.0.source {
            Source::Daemon(questions) => self.look_at_daemon(questions, &now, answered).await,
            Source::Nodes(nodes) => {
                nodes.pace(self.interval());
                Look::from(nodes.look(now.clone()))
            }
        };
        let revision = |look: &Look| look.sample.as_ref().map(|sample| sample.generation);
        let has_leapt = self.is_of_nodes() && revision(&look) != revision(&self.0.looks.borrow());
        let mut memory = self.memory();
        memory.note_uses(&look.routes, &now, has_leapt);
        if let Some(sample) = look.sample.as_ref().filter(|_| look.stalled_seconds == 0) {
            memory.note_sample(sample);
            memory.note_status(&look.status, &now);
        }
        drop(memory);
        self.0.looks.send_replace(Arc::new(look));
    }

    async fn look_at_daemon(
        &self,
        questions: &Questions,
        now: &str,
        answered: &mut Instant,
    ) -> Look {
        let traffic = async |by| Arc::new(questions.traffic(by).await.unwrap_or_default());
        let mut look = Look {
            hosts: traffic(TrafficBy::Host).await,
            backends: traffic(TrafficBy::Backend).await,
            routes: traffic(TrafficBy::Route).await,
            ..Look::default()
        };
        let status = timeout(LOOP_TIME_MAX, questions.status()).await;
        let status = status.ok().flatten().map(serde_json::to_value);
        if let Some(Ok(Value::Object(status))) = status {
            *answered = Instant::now();
            look.sample = Some(Arc::new(sample(&status, &look.hosts, now.to_owned())));
            look.status = Arc::new(status);
        } else {
            let last = self.0.looks.borrow();
            look.sample.clone_from(&last.sample);
            look.status = Arc::clone(&last.status);
            look.stalled_seconds = answered.elapsed().as_secs().max(1);
        }
        look
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

    /// Notes which routes had requests. Sums that have leapt were counted earlier.
    fn note_uses(&mut self, routes: &[Traffic], now: &str, has_leapt: bool) {
        let mut before = std::mem::take(&mut self.used);
        for route in routes.iter().take(USES_MAX) {
            let (requests, time) = before.remove(&route.name).unwrap_or_default();
            let time = if route.requests > requests && !has_leapt {
                Some(now.to_owned())
            } else {
                time
            };
            self.used.insert(route.name.clone(), (route.requests, time));
        }
    }

    fn note_status(&mut self, status: &Map<String, Value>, now: &str) {
        let mut before = std::mem::take(&mut self.problems);
        for problem in read::<Vec<SeenProblem>>(status.get("problems")) {
            let since = before.remove(&problem.text).map(|before| before.since);
            let known = Problem {
                severity: problem.severity,
                object: problem.object,
                field: problem.field,
                text: problem.text.clone(),
                since: since.unwrap_or_else(|| now.to_owned()),
                nodes: problem.nodes,
            };
            self.problems.insert(problem.text, known);
        }
        match status.get("nodes") {
            None => {
                let seen = SeenGeneration {
                    node: None,
                    generation: read(status.get("generation")),
                    config: read(status.get("config")),
                };
                self.note_generation(seen, now);
            }
            nodes => {
                for seen in read::<Vec<SeenGeneration>>(nodes) {
                    self.note_generation(seen, now);
                }
            }
        }
    }

    fn note_generation(&mut self, seen: SeenGeneration, now: &str) {
        let last = self.published.get(&seen.node);
        if seen.generation == 0 || last == Some(&seen.generation) {
            return;
        }
        self.published.insert(seen.node.clone(), seen.generation);
        if self.generations.len() >= GENERATIONS_MAX {
            self.generations.pop_front();
        }
        let config = seen.config;
        self.generations.push_back(Generation {
            generation: seen.generation,
            time: now.to_owned(),
            hosts: config.hosts,
            rules: config.rules,
            backends: config.backends,
            endpoints: config.endpoints,
            certificates: config.certificates,
            node: seen.node,
        });
    }
}

/// A problem in a status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SeenProblem {
    severity: String,
    object: Option<String>,
    field: Option<String>,
    text: String,
    nodes: Vec<String>,
}

/// The configuration that a daemon published last.
#[derive(Default, Deserialize)]
#[serde(default)]
struct SeenGeneration {
    node: Option<String>,
    generation: u64,
    config: ConfigCounts,
}

/// A value of a status; the default where it is missing or of another form.
fn read<T: for<'a> Deserialize<'a> + Default>(value: Option<&Value>) -> T {
    value
        .and_then(|value| T::deserialize(value).ok())
        .unwrap_or_default()
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
