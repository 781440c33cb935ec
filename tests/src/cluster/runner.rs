//! The kubelets' stand-in: runs the pods that are bound to the rig's nodes.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Result, bail};
use futures_util::{StreamExt as _, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::images::Images;
use super::life::{Life, Wish};
use super::network::Node;
use crate::host;
use crate::rig::wait_until;

/// What all pods of the rig share.
pub(super) struct Shared {
    /// For pods and what they refer to.
    pub(super) client: Client,
    /// Programs that stand for images.
    pub(super) images: Images,
    /// Where pods have their files.
    pub(super) directory: PathBuf,
    /// The program that makes containers.
    pub(super) container: PathBuf,
    /// Nodes by name.
    pub(super) nodes: BTreeMap<String, Arc<Node>>,
    /// Processes of containers, by their log.
    pub(super) processes: Mutex<HashMap<PathBuf, u32>>,
    /// Lives of pods.
    pub(super) lives: Mutex<Vec<AbortHandle>>,
}

impl Shared {
    /// The log of a container.
    pub(super) fn log(&self, namespace: &str, pod: &str, container: &str) -> PathBuf {
        let logs = self.directory.join("logs");
        logs.join(format!("{namespace}_{pod}_{container}.log"))
    }

    /// Remembers a container's process, also for the server that answers `kubectl exec`.
    pub(super) fn started(&self, log: PathBuf, process: u32) {
        // A command that comes before there is a file is refused, as on a node whose disk is full.
        let _ = fs::write(log.with_extension("pid"), process.to_string());
        self.lock_processes().insert(log, process);
    }

    /// Forgets it.
    pub(super) fn ended(&self, log: &Path) {
        let _ = fs::remove_file(log.with_extension("pid"));
        self.lock_processes().remove(log);
    }

    fn keep(&self, life: AbortHandle) {
        let mut lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        lives.retain(|life| !life.is_finished());
        lives.push(life);
    }

    /// Ends all pods, without notice, and waits until none would start anything any more.
    pub(super) fn end_all(&self) {
        let lives = self.lives.lock().unwrap_or_else(PoisonError::into_inner);
        for life in &*lives {
            life.abort();
        }
        let are_over = || Ok(lives.iter().all(AbortHandle::is_finished));
        let _ = wait_until("pods to end", are_over);
    }

    fn lock_processes(&self) -> MutexGuard<'_, HashMap<PathBuf, u32>> {
        self.processes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills the containers of a pod without notice.
    pub(super) fn kill(&self, namespace: &str, pod: &str) -> Result<()> {
        for process in self.processes_of(namespace, pod)? {
            host::run(Command::new("kill").args(["-KILL", &process.to_string()]))?;
        }
        Ok(())
    }

    /// Runs a command in a container of a pod and gives what it printed.
    pub(super) fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        let process = self.processes_of(namespace, pod)?[0].to_string();
        let mut enter = Command::new("nsenter");
        enter.args(["--mount", "--net", "--root", "--target", &process]);
        let output = enter.args(command).output()?;
        if !output.status.success() {
            let complaint = String::from_utf8_lossy(&output.stderr);
            bail!("{} in `{pod}`: {}", command.join(" "), complaint.trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// First processes of a pod's containers; at least one.
    fn processes_of(&self, namespace: &str, pod: &str) -> Result<Vec<u32>> {
        let prefix = self.log(namespace, pod, "").with_extension("");
        let prefix = prefix.to_string_lossy();
        let processes = self.lock_processes();
        let of_pod = |log: &PathBuf| log.to_string_lossy().starts_with(&*prefix);
        let of_pod = processes.iter().filter(|(log, _)| of_pod(log));
        let of_pod: Vec<u32> = of_pod.map(|(_, process)| *process).collect();
        if of_pod.is_empty() {
            bail!("no pod `{pod}` runs in `{namespace}`");
        }
        Ok(of_pod)
    }
}

/// Watches pods and runs those of the rig's nodes, for ever.
pub(super) async fn run(shared: Arc<Shared>) {
    let pods: Api<Pod> = Api::all(shared.client.clone());
    let events = watcher(pods, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut known: HashMap<String, watch::Sender<Wish>> = HashMap::new();
    let mut listed: Vec<String> = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitApply(pod)) => {
                listed.push(uid(&pod));
                apply(&shared, &mut known, pod);
            }
            Ok(Event::InitDone) => known.retain(|uid, wish| {
                let is_there = listed.contains(uid);
                if !is_there {
                    let _ = wish.send(None);
                }
                is_there
            }),
            Ok(Event::Apply(pod)) => apply(&shared, &mut known, pod),
            Ok(Event::Delete(pod)) => {
                if let Some(wish) = known.remove(&uid(&pod)) {
                    let _ = wish.send(None);
                }
            }
            // The watch comes back by itself.
            Err(_) => {}
        }
    }
}

fn apply(shared: &Arc<Shared>, known: &mut HashMap<String, watch::Sender<Wish>>, pod: Pod) {
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_ref());
    let Some(node) = node.and_then(|name| shared.nodes.get(name)) else {
        return;
    };
    let uid = uid(&pod);
    let pod = Arc::new(pod);
    if let Some(wish) = known.get(&uid) {
        let _ = wish.send(Some(pod));
        return;
    }
    let (wish, wishes) = watch::channel(Some(Arc::clone(&pod)));
    known.insert(uid, wish);
    let life = Life::new(Arc::clone(shared), Arc::clone(node), pod, wishes);
    shared.keep(tokio::spawn(life.run()).abort_handle());
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}
