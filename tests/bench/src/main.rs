//! `sluice-bench`: runs a suite, prints its table, and leaves nothing behind.
//!
//! Subjects run side by side in one run, alternating, on one core; claims are ratios. Wall time on two shared cores proves
//! little, so the figure is CPU time a request: the busy time of the one core that everything runs on, client and pods
//! included. Each comparison is a number of pairs; its ratio is the median of the pairs' ratios, given with their range. A
//! run in which somebody else had too much of the core is thrown away before its figure is looked at.

mod control;
mod core;
mod datapath;
mod edge;
mod flood;
mod proxy;
mod render;
mod report;
mod rounds;
mod shortcut;
mod wrk;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};
use ingress_tests::demo::Programs;

use crate::proxy::instructions::{self, Matrix, Path, Workload};
use crate::proxy::{Peer, Plan};
use crate::render::render;
use crate::rounds::Effort;

#[derive(Parser)]
#[command(about = "Measures subjects side by side and prints ratios with their spread")]
struct CommandLine {
    /// What to measure.
    suite: Suite,
    /// The daemon.
    #[arg(long)]
    sluice: PathBuf,
    /// How it was built, for the report.
    #[arg(long, default_value = "unknown")]
    build: String,
    /// Another build of it, to measure beside it.
    #[arg(long)]
    other: Option<PathBuf>,
    /// What pods run.
    #[arg(long)]
    origin: PathBuf,
    /// Directory of the peers that are not Debian's.
    #[arg(long, default_value = ".")]
    peer_programs: PathBuf,
    /// Peers to measure beside Sluice's proxy.
    #[arg(long, value_enum, value_delimiter = ',')]
    peers: Vec<Peer>,
    /// Parts of the names of workloads to measure of the proxy, and no others.
    #[arg(long)]
    only: Vec<String>,
    /// Paths to count instructions on; the others are compared with the first.
    #[arg(long, value_enum, value_delimiter = ',')]
    paths: Vec<Path>,
    /// Workloads to count instructions of.
    #[arg(long, value_enum, value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Services in kube-proxy's rules, where instructions are counted.
    #[arg(long, default_value_t = 100)]
    services: usize,
    /// A word of the command that runs its arguments on a machine whose clock counts instructions; none
    /// given: this is one.
    #[arg(long)]
    machine: Vec<String>,
    /// End with an error if a ratio of the report is above this.
    #[arg(long)]
    bound: Option<f64>,
    /// Pairs of runs of each comparison.
    #[arg(long, default_value_t = 5)]
    pairs: u32,
    /// Seconds of one run.
    #[arg(long, default_value_t = 2)]
    seconds: u32,
    /// Also write machine, rows and ratios to this file.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Suite {
    Control,
    Datapath,
    Flood,
    Instructions,
    Proxy,
    Shortcut,
}

fn main() -> Result<()> {
    let flags = CommandLine::parse();
    let programs = Programs {
        sluice: flags.sluice,
        origin: flags.origin,
    };
    let effort = Effort {
        pairs: flags.pairs,
        seconds: flags.seconds,
    };
    let say = |what: &str| {
        let _ = writeln!(std::io::stderr(), "==> {what}");
    };
    let mut report = match flags.suite {
        Suite::Control => control::run(&programs.sluice, say)?,
        Suite::Datapath => datapath::run(&programs, effort, say)?,
        Suite::Flood => flood::run(&programs, effort, say)?,
        Suite::Instructions => {
            let matrix = Matrix {
                paths: flags.paths,
                workloads: flags.workloads,
                services: flags.services,
            };
            if flags.machine.is_empty() {
                let say = |cell: &str| {
                    let _ = writeln!(std::io::stdout(), "{cell}");
                };
                return instructions::measure(&programs, &matrix, say);
            }
            instructions::run(&flags.machine, &programs, &matrix, say)?
        }
        Suite::Proxy => {
            let plan = Plan {
                effort,
                only: flags.only,
                peers: flags.peers,
                programs: flags.peer_programs,
                other: flags.other,
            };
            proxy::run(&programs, &plan, say)?
        }
        Suite::Shortcut => shortcut::run(&programs, effort, say)?,
    };
    report.machine.build = flags.build;
    if let Some(file) = flags.json {
        let json = serde_json::to_string_pretty(&report)?;
        fs::write(&file, json).with_context(|| format!("failed to write {}", file.display()))?;
    }
    std::io::stdout().write_all(render(&report).as_bytes())?;
    flags.bound.map_or(Ok(()), |bound| report.hold_to(bound))
}
