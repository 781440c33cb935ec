//! Active health checks: probes of the endpoints of backends that ask for them.
//!
//! One thread for the process, in the network namespace that it is started in, probes; workers only
//! see that a backend's slot has other endpoints. The thread follows the published table. An endpoint
//! that fails is taken out of the slots of its backends until it passes again.
//!
//! Invariant: probes never leave a backend without endpoints. Where all fail, all get requests: it is
//! more likely that the probe is wrong.

mod probe;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ingress_core::balance::{Health, hash_of_address};
use ingress_core::ir::{HealthCheck, UpstreamProtocol, UpstreamTls as TlsPolicy};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::proxy::table::TableHandle;
use crate::proxy::table::health::{FailingEndpoint, ProbedBackend};
use crate::proxy::table::slot::{BackendHandle, Endpoints};
use crate::proxy::tls::upstream::UpstreamTls;
use probe::ProbeError;

/// Starts the thread that probes the endpoints of the published table.
///
/// # Errors
///
/// An I/O error where the thread cannot be started. Where it cannot set up what it needs, endpoints
/// are not probed, and the log says so.
pub fn start_health_checks(table: TableHandle) -> io::Result<()> {
    let run = move || {
        if let Err(error) = serve(table) {
            tracing::error!(%error, "failed to set up health checks; endpoints are not probed");
        }
    };
    let thread = thread::Builder::new().name("health-checks".to_owned());
    thread.spawn(run).map(drop)
}

fn serve(table: TableHandle) -> io::Result<()> {
    let tls = UpstreamTls::new().map_err(io::Error::other)?;
    let runtime = Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(run(table, Rc::new(tls)));
    Ok(())
}

async fn run(table: TableHandle, tls: Rc<UpstreamTls>) {
    let mut generations = table.generations();
    let (results, mut outcomes) = mpsc::channel(RESULTS_MAX);
    let mut prober = Prober {
        table: table.clone(),
        backends: Vec::new(),
        targets: HashMap::new(),
        starter: Starter {
            results,
            tls,
            open: Rc::new(Semaphore::new(OPEN_MAX)),
        },
    };
    prober.follow();
    loop {
        tokio::select! {
            changed = generations.changed() => {
                if changed.is_err() {
                    return;
                }
                generations.borrow_and_update();
                prober.follow();
            }
            Some(outcome) = outcomes.recv() => prober.note(outcome),
        }
    }
}

/// What is probed: backends that ask for the same of the same endpoint share a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Target {
    address: SocketAddr,
    protocol: UpstreamProtocol,
    check: Arc<HealthCheck>,
    tls: Option<Arc<TlsPolicy>>,
}

/// A target that is probed until this is dropped.
struct Running {
    health: Health,
    /// Why the last failed probe did not pass.
    reason: String,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The end of one probe.
struct Outcome {
    target: Target,
    result: Result<(), ProbeError>,
}

struct Prober {
    table: TableHandle,
    /// Those that ask for probes.
    backends: Vec<Arc<BackendHandle>>,
    targets: HashMap<Target, Running>,
    starter: Starter,
}

impl Prober {
    /// Probes what the table has now.
    fn follow(&mut self) {
        let table = self.table.current();
        let backends = table.checked_backends();
        if backends.is_empty() && self.targets.is_empty() {
            return;
        }
        self.backends = backends.to_vec();
        let mut wanted = HashSet::new();
        let mut unchecked = 0;
        for backend in backends {
            let Some(published) = backend.published() else {
                continue;
            };
            for target in targets(backend, &published) {
                if wanted.len() < TARGETS_MAX {
                    wanted.insert(target);
                } else if !wanted.contains(&target) {
                    unchecked += 1;
                }
            }
        }
        let health = self.table.health();
        if unchecked > 0 && health.unchecked() == 0 {
            tracing::warn!(
                unchecked,
                "the limit of probed endpoints is reached; the others count as healthy"
            );
        }
        health.set_unchecked(unchecked);
        self.targets.retain(|target, _| wanted.contains(target));
        for target in wanted {
            let starter = &self.starter;
            let target_of_task = target.clone();
            self.targets.entry(target).or_insert_with(|| Running {
                health: Health::default(),
                reason: String::new(),
                task: starter.start(target_of_task),
            });
        }
        self.apply();
    }

    /// Notes the end of a probe.
    fn note(&mut self, Outcome { target, result }: Outcome) {
        // The target may have left meanwhile.
        let Some(running) = self.targets.get_mut(&target) else {
            return;
        };
        self.table.health().count(result.is_ok());
        let HealthCheck {
            healthy_threshold,
            unhealthy_threshold,
            ..
        } = *target.check;
        let has_passed = result.is_ok();
        if let Err(error) = result {
            running.reason = error.to_string();
        }
        let health = &mut running.health;
        if !health.note(has_passed, healthy_threshold, unhealthy_threshold) {
            return;
        }
        let endpoint = target.address;
        if health.is_failing() {
            let reason = &running.reason;
            tracing::warn!(%endpoint, reason, "endpoint fails its health check; it gets no requests");
        } else {
            tracing::info!(%endpoint, "endpoint passes its health check again");
        }
        self.apply();
    }

    /// Takes failing endpoints out of the slots of their backends, and puts others back.
    fn apply(&self) {
        let mut has_changed = false;
        let mut probed = Vec::with_capacity(self.backends.len());
        for backend in &self.backends {
            let Some(published) = backend.published() else {
                continue;
            };
            let mut failing = Vec::new();
            for target in targets(backend, &published) {
                let running = self.targets.get(&target);
                let running = running.filter(|running| running.health.is_failing());
                failing.extend(running.map(|running| FailingEndpoint {
                    address: target.address,
                    reason: running.reason.clone(),
                }));
            }
            let addresses: BTreeSet<_> = failing.iter().map(|one| one.address).collect();
            let is_all = !published.addresses.is_empty()
                && (published.addresses.iter()).all(|address| addresses.contains(address));
            if backend.set_failing(addresses) {
                has_changed = true;
                if is_all {
                    let backend = backend.key.to_string();
                    tracing::warn!(
                        backend,
                        "all endpoints fail their health checks; they get requests all the same"
                    );
                }
            }
            probed.push(ProbedBackend {
                backend: backend.key.to_string(),
                endpoints: published.addresses.len(),
                failing,
            });
        }
        self.table.health().set(probed);
        if has_changed {
            self.table.tell_of_endpoints();
        }
    }
}

/// What is probed of a backend with these endpoints.
fn targets<'a>(
    backend: &'a BackendHandle,
    published: &'a Endpoints,
) -> impl Iterator<Item = Target> + 'a {
    let policy = &backend.key.policy;
    let checks = policy.health_check.iter();
    checks.flat_map(move |check| {
        let addresses = published.addresses.iter().chain(&published.draining);
        addresses.map(move |address| Target {
            address: *address,
            protocol: published.protocol,
            check: Arc::clone(check),
            tls: policy.tls.clone(),
        })
    })
}

/// Starts the tasks that probe.
struct Starter {
    results: mpsc::Sender<Outcome>,
    tls: Rc<UpstreamTls>,
    /// Bounds the probes at a time.
    open: Rc<Semaphore>,
}

impl Starter {
    fn start(&self, target: Target) -> AbortHandle {
        let results = self.results.clone();
        let tls = Rc::clone(&self.tls);
        let open = Rc::clone(&self.open);
        let task = tokio::task::spawn_local(async move {
            let interval = Duration::from_secs(target.check.interval.get().into());
            // Endpoints of a table come at once; their probes do not.
            sleep(first_pause(target.address)).await;
            loop {
                let begun = Instant::now();
                let result = {
                    let Ok(_place) = open.acquire().await else {
                        return;
                    };
                    probe::run(&target, &tls).await
                };
                let outcome = Outcome {
                    target: target.clone(),
                    result,
                };
                if results.send(outcome).await.is_err() {
                    return;
                }
                sleep_until(begun + interval).await;
            }
        });
        task.abort_handle()
    }
}

fn first_pause(address: SocketAddr) -> Duration {
    Duration::from_millis(hash_of_address(address) % FIRST_PAUSE_MILLIS)
}

/// Endpoints that are probed.
const TARGETS_MAX: usize = 8192;
/// Probes at a time.
const OPEN_MAX: usize = 256;
/// Results that wait for the prober.
const RESULTS_MAX: usize = 256;
/// First probes begin within this time.
const FIRST_PAUSE_MILLIS: u64 = 1000;
