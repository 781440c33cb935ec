//! One pod's life: sandbox, volumes, containers, probes, and a graceful end.
//!
//! The order of what others see is a kubelet's: a pod is ready only when its probe has said so, and
//! one that is deleted gets its preStop hook, SIGTERM, its grace period, SIGKILL, and is only then
//! taken from the API.

use std::collections::HashMap;
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Container, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use rustix::process::Signal;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::network::Node;
use super::node;
use super::probe::Readiness;
use super::runner::Shared;
use super::sandbox::Sandbox;
use super::spec::Surroundings;
use super::status::{ContainerReport, Report, State};
use super::task::Task;
use super::volumes;

/// What the API says of the pod; none when it is no longer there.
pub(super) type Wish = Option<Arc<Pod>>;

/// A pod on its node.
pub(super) struct Life {
    shared: Arc<Shared>,
    node: Arc<Node>,
    wish: watch::Receiver<Wish>,
    pod: Arc<Pod>,
    report: Report,
    /// When readiness last changed, and what it was then.
    turn: (Timestamp, bool),
    running: Vec<Running>,
    directory: PathBuf,
    statuses: watch::Sender<Option<Value>>,
}

/// A container that may have a process.
struct Running {
    task: Option<Task>,
    probe: Option<JoinHandle<()>>,
}

enum Event {
    Wish,
    Ended(usize, i32),
    Probed(usize, bool),
}

impl Life {
    /// Starts with what the API says first.
    pub(super) fn new(
        shared: Arc<Shared>,
        node: Arc<Node>,
        pod: Arc<Pod>,
        wish: watch::Receiver<Wish>,
    ) -> Self {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let spec = pod.spec.clone().unwrap_or_default();
        let waiting = |container: &Container| ContainerReport {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            state: State::Waiting("ContainerCreating", String::new()),
            is_ready: false,
            restarts: 0,
        };
        let now = Timestamp::now();
        let report = Report {
            start: now,
            hosts: vec![node.v4.clone(), node.v6.clone()],
            addresses: Vec::new(),
            containers: spec.containers.iter().map(waiting).collect(),
            is_restarted: spec.restart_policy.as_deref().unwrap_or("Always") == "Always",
        };
        Self {
            directory: shared.directory.join("pods").join(uid),
            running: Vec::new(),
            turn: (now, false),
            statuses: watch::Sender::new(None),
            report,
            shared,
            node,
            wish,
            pod,
        }
    }

    /// Lives until the pod is gone from the API.
    pub(super) async fn run(mut self) {
        let name = self.name().to_owned();
        tokio::spawn(write_statuses(self.api(), name, self.statuses.subscribe()));
        while let Err(error) = self.live().await {
            // As a kubelet does: tell, and try again.
            for container in &mut self.report.containers {
                container.state = State::Waiting("CreateContainerError", format!("{error:#}"));
                container.is_ready = false;
            }
            self.stop_all();
            self.write_status();
            if self.is_unwanted() {
                break;
            }
            sleep(RETRY).await;
        }
        self.stop_all();
        let _ = self.take_from_api().await;
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// From the sandbox to the end of the last container.
    async fn live(&mut self) -> Result<()> {
        let node = Arc::clone(&self.node);
        let is_host_network = self.spec_of_pod().host_network.unwrap_or(false);
        let sandbox = if is_host_network {
            Sandbox::on_host_network(node)
        } else {
            spawn_blocking(|| Sandbox::create(node)).await??
        };
        self.report.addresses = sandbox.addresses();
        let lived = self.live_in(&sandbox).await;
        self.stop_all();
        spawn_blocking(|| drop(sandbox)).await?;
        lived
    }

    async fn live_in(&mut self, sandbox: &Sandbox) -> Result<()> {
        self.write_status();
        let volumes = self.directory.join("volumes");
        let node = node::directory(&self.shared.directory, &self.node.name);
        let volumes = volumes::make(&self.shared.client, &self.pod, &node, &volumes).await?;
        let (probed, mut answers) = mpsc::unbounded_channel();
        self.running = (0..self.report.containers.len())
            .map(|_| Running {
                task: None,
                probe: None,
            })
            .collect();
        for index in 0..self.report.containers.len() {
            self.start(index, sandbox, &volumes, &probed).await?;
        }
        self.write_status();
        while !self.is_unwanted() {
            match self.next(&mut answers).await? {
                Event::Wish => {}
                Event::Probed(index, is_ready) => {
                    self.report.containers[index].is_ready = is_ready;
                    self.write_status();
                }
                Event::Ended(index, code) => {
                    self.end(index, code);
                    self.write_status();
                    if !self.report.is_restarted {
                        continue;
                    }
                    self.report.containers[index].restarts += 1;
                    // A kubelet waits longer and longer; the rig always waits as it does first.
                    sleep(RESTART).await;
                    self.start(index, sandbox, &volumes, &probed).await?;
                    self.write_status();
                }
            }
        }
        self.terminate().await
    }

    async fn start(
        &mut self,
        index: usize,
        sandbox: &Sandbox,
        volumes: &HashMap<String, PathBuf>,
        probed: &mpsc::UnboundedSender<(usize, bool)>,
    ) -> Result<()> {
        let container = self.spec_of_pod().containers[index].clone();
        let restarts = self.report.containers[index].restarts;
        let root = self
            .directory
            .join(format!("{}.{restarts}", container.name));
        fs::create_dir_all(&root)?;
        let mut pod = Pod::clone(&self.pod);
        pod.status = serde_json::from_value(self.report.patch(self.turn.0)["status"].take())?;
        let surroundings = Surroundings {
            client: &self.shared.client,
            pod: &pod,
            images: &self.shared.images,
            network: sandbox.network(),
            volumes,
            root: &root,
        };
        let spec = surroundings.spec(&container).await?;
        let file = root.with_extension(format!("{restarts}.json"));
        fs::write(&file, serde_json::to_vec(&spec)?)?;
        let mut command = Command::new(&self.shared.container);
        command.arg(&file);
        let log = self.log(&container.name);
        let task = Task::spawn(command, &log)?;
        let process = task.id();
        self.shared.started(log, process);
        let address: IpAddr = sandbox.addresses()[0].parse()?;
        let readiness = Readiness::of(&container, address, process)?;
        let report = &mut self.report.containers[index];
        report.state = State::Running(Timestamp::now());
        report.is_ready = readiness.is_none();
        let node = Arc::clone(&self.node);
        let probed = probed.clone();
        let probe = readiness.map(|readiness| tokio::spawn(probe(readiness, node, index, probed)));
        self.running[index] = Running {
            task: Some(task),
            probe,
        };
        Ok(())
    }

    async fn next(
        &mut self,
        answers: &mut mpsc::UnboundedReceiver<(usize, bool)>,
    ) -> Result<Event> {
        tokio::select! {
            changed = self.wish.changed() => {
                changed.context("the rig ends")?;
                Ok(Event::Wish)
            }
            ended = first_end(&mut self.running) => {
                let (index, code) = ended?;
                Ok(Event::Ended(index, code))
            }
            Some((index, is_ready)) = answers.recv() => Ok(Event::Probed(index, is_ready)),
        }
    }

    fn end(&mut self, index: usize, code: i32) {
        self.shared
            .ended(&self.log(&self.report.containers[index].name));
        self.running[index].stop();
        self.report.containers[index].state = State::Ended(code);
        self.report.containers[index].is_ready = false;
    }

    /// preStop, SIGTERM, patience, SIGKILL.
    async fn terminate(&mut self) -> Result<()> {
        let grace = {
            let wish = self.wish.borrow();
            let metadata = wish.as_ref().map(|pod| &pod.metadata);
            metadata.map_or(0, |metadata| {
                metadata.deletion_grace_period_seconds.unwrap_or(30)
            })
        };
        let deadline = Instant::now() + Duration::from_secs(u64::try_from(grace).unwrap_or(0));
        let pause = self
            .spec_of_pod()
            .containers
            .iter()
            .filter_map(pause_before_stop)
            .max();
        let hook_ends = (Instant::now() + pause.unwrap_or_default()).min(deadline);
        tokio::select! {
            () = sleep_until(hook_ends) => {}
            () = gone(&mut self.wish) => return Ok(()),
        }
        for running in &self.running {
            if let Some(task) = &running.task {
                task.signal(Signal::TERM);
            }
        }
        while self.running.iter().any(|running| running.task.is_some()) {
            let end = tokio::select! {
                end = timeout_at(deadline, first_end(&mut self.running)) => end,
                () = gone(&mut self.wish) => return Ok(()),
            };
            let Ok(end) = end else { break };
            let (index, code) = end?;
            self.end(index, code);
        }
        self.stop_all();
        Ok(())
    }

    fn stop_all(&mut self) {
        for running in &mut self.running {
            running.stop();
        }
        for container in &self.report.containers {
            self.shared.ended(&self.log(&container.name));
        }
    }

    fn spec_of_pod(&self) -> k8s_openapi::api::core::v1::PodSpec {
        self.pod.spec.clone().unwrap_or_default()
    }

    /// Whether the pod is being deleted, or is no longer there.
    fn is_unwanted(&self) -> bool {
        let wish = self.wish.borrow();
        wish.as_ref()
            .is_none_or(|pod| pod.metadata.deletion_timestamp.is_some())
    }

    /// Has the status written, by and by: a kubelet does its work also while the API is away.
    fn write_status(&mut self) {
        let is_ready = self.report.is_ready();
        if is_ready != self.turn.1 {
            self.turn = (Timestamp::now(), is_ready);
        }
        let patch = self.report.patch(self.turn.0);
        self.statuses.send_replace(Some(patch));
    }

    async fn take_from_api(&self) -> Result<()> {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: self.pod.metadata.uid.clone(),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        loop {
            match self.api().delete(self.name(), &params).await {
                Ok(_) | Err(kube::Error::Api(_)) => return Ok(()),
                Err(_) => sleep(RETRY).await,
            }
        }
    }

    fn api(&self) -> Api<Pod> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        Api::namespaced(self.shared.client.clone(), namespace)
    }

    fn name(&self) -> &str {
        self.pod.metadata.name.as_deref().unwrap_or_default()
    }

    fn log(&self, container: &str) -> PathBuf {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        self.shared.log(namespace, self.name(), container)
    }
}

impl Running {
    fn stop(&mut self) {
        self.task = None;
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
    }
}

/// The first container whose process ends; waits for ever if none has one.
async fn first_end(running: &mut [Running]) -> Result<(usize, i32)> {
    let ends = (0..).zip(running).filter_map(|(index, running)| {
        let task = running.task.as_mut()?;
        Some(Box::pin(async move {
            task.ended().await.map(|code| (index, code))
        }))
    });
    let ends: Vec<_> = ends.collect();
    if ends.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(ends).await.0
}

/// Writes the newest status until there can be no more.
async fn write_statuses(pods: Api<Pod>, name: String, mut newest: watch::Receiver<Option<Value>>) {
    while newest.changed().await.is_ok() {
        let Some(status) = newest.borrow_and_update().clone() else {
            continue;
        };
        let patch = Patch::Strategic(status);
        loop {
            match pods
                .patch_status(&name, &PatchParams::default(), &patch)
                .await
            {
                Ok(_) => break,
                Err(kube::Error::Api(status)) if status.code < 500 => break,
                Err(_) if newest.has_changed().unwrap_or(true) => break,
                Err(_) => sleep(RETRY).await,
            }
        }
    }
}

/// Returns when the pod is no longer in the API.
async fn gone(wish: &mut watch::Receiver<Wish>) {
    let _ = wish.wait_for(Option::is_none).await;
}

async fn probe(
    readiness: Readiness,
    node: Arc<Node>,
    index: usize,
    probed: mpsc::UnboundedSender<(usize, bool)>,
) {
    sleep(readiness.delay).await;
    let mut is_ready = false;
    let mut failures = 0;
    loop {
        let (question, on) = (readiness.clone(), Arc::clone(&node));
        let answer = spawn_blocking(move || question.ask(&on.host))
            .await
            .unwrap_or(false);
        failures = if answer { 0 } else { failures + 1 };
        if answer != is_ready && (answer || failures >= readiness.failures) {
            is_ready = answer;
            let _ = probed.send((index, is_ready));
        }
        sleep(readiness.period).await;
    }
}

/// How long a container is left alone before SIGTERM.
fn pause_before_stop(container: &Container) -> Option<Duration> {
    let hook = container.lifecycle.as_ref()?.pre_stop.as_ref()?;
    let seconds = hook.sleep.as_ref()?.seconds;
    u64::try_from(seconds).ok().map(Duration::from_secs)
}

const RETRY: Duration = Duration::from_millis(200);
const RESTART: Duration = Duration::from_secs(1);
