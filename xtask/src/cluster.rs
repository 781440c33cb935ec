//! A cluster for a person: builds, then hands over to the rig's cluster.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{assets, compile, setup, shell};

#[derive(Args)]
pub(crate) struct Flags {
    /// Nodes that clients come to.
    #[arg(long, default_value_t = 1)]
    edges: usize,
    /// Nodes besides those.
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// How kube-proxy makes Services reachable: nftables or iptables.
    #[arg(long, default_value = "nftables")]
    proxy_mode: String,
}

/// Runs the cluster; its exit status is ours.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let mut cluster = command()?;
    cluster
        .args(["--edges", &flags.edges.to_string()])
        .args(["--workers", &flags.workers.to_string()])
        .args(["--proxy-mode", &flags.proxy_mode]);
    // The cluster takes this process's place, so that Ctrl-C and the exit status are its own.
    Err(cluster.exec()).context("failed to start the cluster")
}

/// Shows the main job on a cluster.
pub(crate) fn demo(keep: bool) -> Result<()> {
    let mut cluster = command()?;
    cluster.arg("--demo").args(keep.then_some("--keep"));
    Err(cluster.exec()).context("failed to start the cluster")
}

/// Sets up, builds, and gives what starts a cluster.
fn command() -> Result<Command> {
    if !shell::is_root() {
        bail!("the cluster is made of network namespaces: run it as root");
    }
    setup::run(setup::Scope::Rig)?;
    let programs = assets::ensure()?;
    let built = compile::sluice_and_rig(compile::Rig::Dev)?;
    let mut cluster = Command::new(built.join("sluice-cluster"));
    cluster
        .current_dir(shell::root())
        .env("SLUICE_CLUSTER_BIN", programs)
        .env("SLUICE_ORIGIN", built.join("sluice-origin"))
        .env("SLUICE_BINARY", built.join("sluice"));
    Ok(cluster)
}
