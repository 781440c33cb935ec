//! What a kubelet tells of its node, and the kube-proxy beside it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use rustix::mount::{MountFlags, mount};
use serde_json::{Value, json};

use super::network::{Node, PODS, Role};
use super::programs::Programs;
use crate::host::Process;

/// How kube-proxy makes Services reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// By nftables' maps.
    Nftables,
    /// By iptables' chains.
    Iptables,
}

impl ProxyMode {
    /// As kube-proxy's flag has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// Makes the Node object and calls it ready.
pub async fn register(client: &Client, node: &Node) -> Result<()> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let object: NodeObject = serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": node.name, "labels": labels(node)},
        "spec": {"podCIDR": node.pod_ranges()[0], "podCIDRs": node.pod_ranges()},
    }))?;
    nodes
        .create(&PostParams::default(), &object)
        .await
        .with_context(|| format!("failed to register node `{}`", node.name))?;
    set_ready(client, node, true).await
}

/// Writes the node's status: ready or not.
pub async fn set_ready(client: &Client, node: &Node, is_ready: bool) -> Result<()> {
    let nodes: Api<NodeObject> = Api::all(client.clone());
    let capacity = json!({
        "cpu": "64", "memory": "256Gi", "ephemeral-storage": "256Gi", "pods": "240",
    });
    let status = json!({"status": {
        "addresses": [
            {"type": "InternalIP", "address": node.v4},
            {"type": "InternalIP", "address": node.v6},
            {"type": "Hostname", "address": node.name},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET_PORT}},
        "capacity": capacity,
        "allocatable": capacity,
        "conditions": [condition("Ready", is_ready), condition("MemoryPressure", false),
            condition("DiskPressure", false), condition("PIDPressure", false)],
    }});
    let patch = Patch::Strategic(status);
    nodes
        .patch_status(&node.name, &PatchParams::default(), &patch)
        .await
        .with_context(|| format!("failed to write the status of node `{}`", node.name))?;
    Ok(())
}

fn condition(kind: &str, is_so: bool) -> Value {
    let status = if is_so { "True" } else { "False" };
    json!({"type": kind, "status": status, "reason": "Rig", "message": "the rig says so"})
}

fn labels(node: &Node) -> Value {
    let mut labels = json!({
        "kubernetes.io/hostname": node.name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    });
    match node.role {
        Role::Edge => {
            labels["node-role.kubernetes.io/edge"] = "".into();
            labels[EDGE_LABEL] = "true".into();
        }
        Role::Worker => {}
    }
    labels
}

/// What a node has of its own in the machine's file system.
pub(super) fn directory(cluster: &Path, node: &str) -> PathBuf {
    cluster.join("nodes").join(node)
}

/// Makes a node's own directories, and mounts its own bpffs.
pub(super) fn make_directories(node: &Path) -> Result<()> {
    let bpffs = node.join("bpf");
    fs::create_dir_all(&bpffs)?;
    fs::create_dir_all(node.join("run"))?;
    mount("bpf", &bpffs, "bpf", MountFlags::empty(), None).context("failed to mount a bpffs")
}

/// Where a path of a node is in the machine's file system: nodes don't share what programs leave.
pub(super) fn on_node(node: &Path, path: &str) -> PathBuf {
    for (prefix, own) in [("/sys/fs/bpf", "bpf"), ("/var/run", "run"), ("/run", "run")] {
        if let Ok(rest) = Path::new(path).strip_prefix(prefix) {
            return node.join(own).join(rest);
        }
    }
    PathBuf::from(path)
}

/// Starts the node's kube-proxy.
pub fn start_proxy(
    node: &Node,
    programs: &Programs,
    mode: ProxyMode,
    kubeconfig: &Path,
    log: &Path,
) -> Result<Process> {
    let mut proxy = node.host.command(programs.path("kube-proxy")?);
    proxy
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!("--hostname-override={}", node.name))
        .arg(format!("--proxy-mode={}", mode.name()))
        .arg(format!("--cluster-cidr={PODS}"))
        // Settings of the whole machine, which a network namespace can't change.
        .args(["--conntrack-max-per-core=0", "--conntrack-min=0"])
        .args(["--bind-address=0.0.0.0", "--oom-score-adj=0"])
        // A change reaches the rules at once when nothing has changed for a while.
        .args(["--nodeport-addresses=primary"]);
    Process::spawn(proxy, log)
}

/// Starts the server that answers `kubectl exec` for pods of the node. `logs` has a file with the process
/// id of each container.
pub fn start_kubelet(node: &Node, program: &Path, logs: &Path) -> Result<Process> {
    let mut kubelet = node.host.command(program);
    kubelet.arg(format!(":{KUBELET_PORT}")).arg(logs);
    let log = logs.join(format!("kubelet-{}.log", node.name));
    Process::spawn(kubelet, &log)
}

/// Where API servers expect kubelets.
const KUBELET_PORT: u16 = 10_250;
/// By which the manifests of Sluice choose nodes.
const EDGE_LABEL: &str = "sluice.dev/edge";
