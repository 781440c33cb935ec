//! A real Kubernetes cluster on network namespaces.
//!
//! ```text
//!   client ─┐            ┌─ control   etcd, kube-apiserver, controllers, scheduler
//!  client6 ─┴─ switch ───┼─ edge1     kube-proxy ── pods
//!                        └─ worker1…  kube-proxy ── pods
//! ```
//!
//! Everything but the kubelets is the real thing; in their place `runner` watches the pods that the
//! scheduler has bound, `sandbox` gives each its network namespace and addresses, `container` makes
//! its processes containers, and `life` writes back what has become of it, in a kubelet's order.
//!
//! Nothing listens on an address of the machine but a loopback port (`forward`) that leads to the API
//! server, for `kubectl` and tests.

pub mod beside;
mod brownout;
pub mod container;
pub mod control;
pub mod demo;
mod downward;
pub mod driver;
mod endpoints;
mod forward;
pub mod images;
mod kubeconfig;
mod life;
pub mod network;
pub mod node;
pub mod objects;
mod pki;
mod probe;
pub mod programs;
mod runner;
mod sandbox;
mod sluice;
mod spec;
mod status;
mod task;
mod volumes;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use tokio::task::AbortHandle;

use self::control::{Audit, ControlPlane, Place};
use self::images::Images;
use self::network::{Network, Node, Role};
use self::node::ProxyMode;
use self::programs::Programs;
use self::runner::Shared;
use crate::host::{self, Process};

/// A cluster. Dropping it ends and removes everything.
pub struct Cluster {
    /// Its control plane.
    pub plane: ControlPlane,
    /// Its switch and clients.
    pub network: Network,
    /// Starts every name that it makes.
    pub prefix: String,
    shared: Arc<Shared>,
    runner: AbortHandle,
    /// kube-proxies, and the servers that answer `kubectl exec`.
    processes: Vec<Process>,
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// The control plane's programs.
    pub programs: Programs,
    /// Programs that stand for images.
    pub images: Images,
    /// The program that makes containers.
    pub container: PathBuf,
    /// Nodes that clients come to.
    pub edges: usize,
    /// Nodes that only run pods.
    pub workers: usize,
    /// How Services are made reachable.
    pub proxy_mode: ProxyMode,
    /// Whether the API server writes an audit log.
    pub audit: Audit,
    /// The program that answers `kubectl exec` on nodes, if tests run that.
    pub kubelet: Option<PathBuf>,
}

impl Options {
    /// One edge node and two workers, with programs from the environment as `cargo xtask` sets it.
    pub fn from_env() -> Result<Self> {
        let binary = |name| {
            let path = env::var_os(name).map(PathBuf::from);
            path.with_context(|| format!("{name} is not set: run this by `cargo xtask`"))
        };
        let origin = binary("SLUICE_ORIGIN")?;
        let images = Images::default()
            .with("origin", &origin)
            .with("sluice", &binary("SLUICE_BINARY")?);
        Ok(Self {
            programs: Programs::from_env(),
            images,
            container: origin.with_file_name("sluice-container"),
            edges: 1,
            workers: 2,
            proxy_mode: ProxyMode::Nftables,
            audit: Audit::Metadata,
            kubelet: None,
        })
    }
}

impl Cluster {
    /// Starts one under a name of its own.
    pub fn start(options: &Options) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::start_with_prefix(options, &format!("k{}x{number}", std::process::id()))
    }

    /// Starts one whose names all start with `prefix`.
    pub fn start_with_prefix(options: &Options, prefix: &str) -> Result<Self> {
        let started = Self::build(options, prefix);
        if started.is_err() {
            host::remove_all(prefix);
        }
        started
    }

    fn build(options: &Options, prefix: &str) -> Result<Self> {
        let directory = host::run_directory(prefix);
        fs::create_dir_all(directory.join("logs"))?;
        for (name, _) in roles(options) {
            node::make_directories(&node::directory(&directory, &name))?;
        }
        let network = Network::build(prefix)?;
        let roles = roles(options);
        let nodes = network.nodes(prefix, &roles)?;
        let plane = ControlPlane::start_on(
            network.control(prefix, &nodes)?,
            &control::Options {
                prefix: prefix.to_owned(),
                programs: options.programs.clone(),
                audit: options.audit,
            },
        )?;
        let kubeconfig = plane.kubeconfig_for_user("system:kube-proxy", Place::Lan)?;
        let mut processes = Vec::new();
        for node in &nodes {
            if let Some(kubelet) = &options.kubelet {
                processes.push(node::start_kubelet(node, kubelet, &directory.join("logs"))?);
            }
            plane
                .driver()
                .block_on(node::register(&plane.client(), node))?;
            let log = directory.join(format!("logs/kube-proxy-{}.log", node.name));
            let mode = options.proxy_mode;
            processes.push(node::start_proxy(
                node,
                &options.programs,
                mode,
                &kubeconfig,
                &log,
            )?);
        }
        let nodes = nodes
            .into_iter()
            .map(|node| (node.name.clone(), Arc::new(node)));
        let shared = Arc::new(Shared {
            client: plane.client(),
            images: options.images.clone(),
            directory,
            container: options.container.clone(),
            nodes: nodes.collect(),
            processes: Mutex::default(),
            lives: Mutex::default(),
        });
        let runner = plane
            .driver()
            .handle()
            .spawn(runner::run(Arc::clone(&shared)));
        Ok(Self {
            runner: runner.abort_handle(),
            prefix: prefix.to_owned(),
            plane,
            network,
            shared,
            processes,
        })
    }

    /// A node by name.
    pub fn node(&self, name: &str) -> Result<&Node> {
        let node = self.shared.nodes.get(name);
        let node = node.with_context(|| format!("the cluster has no node `{name}`"))?;
        Ok(node)
    }

    /// Waits until a Deployment or `DaemonSet` of the default namespace is as it should be.
    pub fn roll_out(&self, name: &str) -> Result<()> {
        self.plane
            .kubectl(&["rollout", "status", name, "--timeout=60s"])
            .map(drop)
    }

    /// Kills the containers of a pod without notice.
    pub fn kill_pod(&self, namespace: &str, name: &str) -> Result<()> {
        self.shared.kill(namespace, name)
    }

    /// Runs a command in a container of a pod and gives what it printed.
    pub fn exec(&self, namespace: &str, pod: &str, command: &[&str]) -> Result<String> {
        self.shared.exec(namespace, pod, command)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.shared.nodes.values().map(Arc::as_ref)
    }

    /// Names of the images that pods can run.
    pub fn images(&self) -> impl Iterator<Item = &str> {
        self.shared.images.names()
    }

    /// A file or directory of this cluster.
    pub fn path(&self, name: &str) -> PathBuf {
        self.shared.directory.join(name)
    }

    /// What a container has printed.
    pub fn log(&self, namespace: &str, pod: &str, container: &str) -> String {
        fs::read_to_string(self.shared.log(namespace, pod, container)).unwrap_or_default()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.runner.abort();
        self.shared.end_all();
        self.processes.clear();
        host::remove_all(&self.prefix);
    }
}

fn roles(options: &Options) -> Vec<(String, Role)> {
    let edges = (1..=options.edges).map(|number| (format!("edge{number}"), Role::Edge));
    let workers = (1..=options.workers).map(|number| (format!("worker{number}"), Role::Worker));
    edges.chain(workers).collect()
}
