//! Measurements: builds, then hands over to the rig's bench.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use crate::kernel::{self, Kernel};
use crate::{assets, compile, peers, pgo, setup, shell};

#[derive(Args)]
pub(crate) struct Flags {
    /// What to measure.
    suite: Suite,
    /// Also write machine, rows and ratios to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Of the proxy: measure workloads whose name contains this, and no others.
    #[arg(long, value_name = "PART")]
    only: Vec<String>,
    /// Of the proxy: who stands beside Sluice.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "nginx,haproxy,envoy,traefik,pingora"
    )]
    peers: Vec<String>,
    /// Of the proxy: another build of Sluice that stands beside it too, as `other`.
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// Of the proxy: measure the plain release build, not the one by a profile.
    #[arg(long)]
    no_pgo: bool,
    /// Pairs of runs of each comparison.
    #[arg(long, default_value_t = 5)]
    pairs: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    /// The control side with 10,000 Ingresses on a real API server: start, change, memory, rest.
    Control,
    /// Instructions of a whole machine for a request, by packet path and proxy, on Debian's kernel 6.12
    /// in an emulator.
    Instructions,
    /// Packet paths: NodePort, host listener, netns; and ns a packet of each program.
    Datapath,
    /// New connections that are served in a flood of SYNs, without cookies and with two kinds of them.
    Flood,
    /// Sluice beside other proxies: CPU time a request, on one core.
    Proxy,
    /// Requests to pods of the node, with the shortcut and by TCP.
    Shortcut,
}

/// Runs one suite; its exit status is ours.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    if !shell::is_root() {
        bail!("benches make network namespaces and load eBPF programs: run them as root");
    }
    setup::run(setup::Scope::Bench)?;
    setup::install_packages(&[
        ("wrk", "wrk"),
        ("h2load", "nghttp2-client"),
        ("haproxy", "haproxy"),
    ])?;
    let by_profile = matches!(flags.suite, Suite::Proxy) && !flags.no_pgo;
    let sluice = if by_profile {
        pgo::sluice(compile::Rig::Fast, compile::Debug::Lines)?
    } else {
        compile::sluice()?
    };
    let rig = compile::bench()?;
    let mut bench = Command::new(rig.join("sluice-bench"));
    bench.current_dir(shell::root());
    match flags.suite {
        Suite::Control => bench
            .arg("control")
            .env("SLUICE_CLUSTER_BIN", assets::ensure()?),
        Suite::Datapath => bench.arg("datapath"),
        Suite::Instructions => {
            let machine = kernel::counting(Kernel::V6_12)?;
            bench
                .args(["instructions", "--paths", PATHS, "--workloads", WORKLOADS])
                .args(machine.iter().map(|word| format!("--machine={word}")))
        }
        Suite::Flood => bench.arg("flood"),
        Suite::Shortcut => bench.arg("shortcut"),
        Suite::Proxy => {
            bench.args(["proxy", "--peers", &flags.peers.join(",")]);
            bench
                .arg("--peer-programs")
                .arg(peers::ensure(&flags.peers)?);
            if let Some(other) = &flags.other {
                bench.arg("--other").arg(std::path::absolute(other)?);
            }
            bench.args(flags.only.iter().flat_map(|part| ["--only", part]))
        }
    };
    bench.args(["--build", if by_profile { PGO } else { PLAIN }]);
    bench
        .arg("--sluice")
        .arg(sluice)
        .arg("--origin")
        .arg(rig.join("sluice-origin"));
    bench.arg("--pairs").arg(flags.pairs.to_string());
    bench.arg("--seconds").arg(flags.seconds.to_string());
    if let Some(file) = &flags.json {
        bench.arg("--json").arg(std::path::absolute(file)?);
    }
    Err(bench.exec()).context("failed to start the bench")
}

/// What instructions are counted of.
const PATHS: &str = "bare,rules,netns,unguarded,nginx,haproxy";
const WORKLOADS: &str = "keep-alive,new-connection,large,tls,local";
/// How Sluice was built, for the report.
const PGO: &str = "release, by a profile";
const PLAIN: &str = "release";
