//! The main job, shown: builds, then hands over to the rig's demo.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::{cluster, compile, setup, shell};

#[derive(Args)]
pub(crate) struct Flags {
    /// Print the same as JSON.
    #[arg(long)]
    json: bool,
    /// Leave everything running until Ctrl-C, with hints of what to try.
    #[arg(long)]
    keep: bool,
    /// On a Kubernetes cluster: objects by kubectl, pods by Deployments, kube-proxy beside it.
    #[arg(long, conflicts_with = "json")]
    cluster: bool,
}

/// Runs the demo; its exit status is ours.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    if !shell::is_root() {
        bail!("the demo makes network namespaces and loads eBPF programs: run it as root");
    }
    if flags.cluster {
        return cluster::demo(flags.keep);
    }
    setup::run(setup::Scope::Rig)?;
    let programs = compile::sluice_and_rig(compile::Rig::Fast)?;
    let mut demo = Command::new(programs.join("sluice-demo"));
    demo.current_dir(shell::root());
    demo.arg("--sluice")
        .arg(programs.join("sluice"))
        .arg("--origin")
        .arg(programs.join("sluice-origin"));
    demo.args(flags.json.then_some("--json"))
        .args(flags.keep.then_some("--keep"));
    // The demo takes this process's place, so that Ctrl-C and the exit status are its own.
    Err(demo.exec()).context("failed to start the demo")
}
