//! Instructions of a whole machine for one request: client, switch, node, pod, kernel and user space.
//!
//! An emulated machine with one core has a clock that counts instructions, one a nanosecond. With 16
//! clients that send one request after another its core always has work, so that a request takes a second
//! divided by their rate. Each path has a machine to itself. Runs differ by 1 %, whatever else this machine does; what depends on caches is not
//! seen.

use std::env;
use std::path::Path as FilePath;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::peer::{Peer, Subject};
use super::scene::{Backends, Datapath, Scene, host};
use super::stage::Stage;
use crate::core::Core;
use crate::report::{Measure, Report};
use crate::wrk::Wrk;
use ingress_tests::demo::Programs;
use ingress_tests::load::Reuse;
use ingress_tests::rig::{EDGE_V4, Options, Rig};

/// How a request gets to a pod of another node, and through which proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Path {
    /// A listener of Sluice on a host without any firewall rule: what others are compared with.
    Bare,
    /// The same with kube-proxy's rules and connection tracking.
    Rules,
    /// The ingress netns, with kube-proxy's rules on the host.
    Netns,
    /// The same without the guard: XDP on the rig's veth copies each packet, which XDP on a network
    /// card does not.
    Unguarded,
    /// nginx on a host without any firewall rule.
    Nginx,
    /// `HAProxy` there.
    Haproxy,
}

impl Path {
    const fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Rules => "rules",
            Self::Netns => "netns",
            Self::Unguarded => "unguarded",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
        }
    }

    const fn has_rules(self) -> bool {
        matches!(self, Self::Rules | Self::Netns | Self::Unguarded)
    }

    const fn peer(self) -> Peer {
        match self {
            Self::Bare | Self::Rules | Self::Netns | Self::Unguarded => Peer::Sluice,
            Self::Nginx => Peer::Nginx,
            Self::Haproxy => Peer::Haproxy,
        }
    }

    const fn datapath(self) -> Datapath {
        match self {
            Self::Bare | Self::Rules | Self::Nginx | Self::Haproxy => Datapath::Host,
            Self::Netns => Datapath::Netns,
            Self::Unguarded => Datapath::Unguarded,
        }
    }
}

/// The load on each path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// 1 KiB from the other node, on connections that are kept alive.
    KeepAlive,
    /// The same with a new connection for each request.
    NewConnection,
    /// 64 KiB.
    Large,
    /// 1 KiB over TLS.
    Tls,
    /// 1 KiB from a pod of the edge node.
    Local,
}

impl Workload {
    const fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "1 KiB kept alive",
            Self::NewConnection => "new connection a request",
            Self::Large => "64 KiB kept alive",
            Self::Tls => "1 KiB over TLS",
            Self::Local => "1 KiB from a local pod",
        }
    }

    const fn backends(self) -> Backends {
        match self {
            Self::KeepAlive | Self::NewConnection | Self::Large | Self::Tls => Backends::OtherNode,
            Self::Local => Backends::Shared { endpoints: 1 },
        }
    }
}

/// The paths and loads of one run.
#[derive(Clone, Debug)]
pub(crate) struct Matrix {
    /// Paths. The others are compared with the first.
    pub paths: Vec<Path>,
    /// The loads on each path.
    pub workloads: Vec<Workload>,
    /// Services in kube-proxy's rules.
    pub services: usize,
}

/// The figure of one path and workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Cell {
    workload: String,
    instructions: f64,
}

/// Measures the one path of a matrix on this machine, whose clock counts instructions, and prints a
/// line of JSON for each workload.
pub(crate) fn measure(programs: &Programs, matrix: &Matrix, say: impl Fn(&str)) -> Result<()> {
    let [path] = matrix.paths[..] else {
        bail!("an emulated machine measures one path");
    };
    let core = Core::take("sluice-bench")?;
    let rig = Rig::build(Options {
        services: matrix.services,
        has_rules: path.has_rules(),
        origin: programs.origin.clone(),
        sluice: programs.sluice.clone(),
    })?;
    let stage = Stage::set_on(rig, FilePath::new("."), None)?;
    for (number, workload) in (0..).zip(&matrix.workloads) {
        let scene = Scene {
            backends: workload.backends(),
            datapath: path.datapath(),
            ..Scene::PLAIN
        };
        let subject = path.peer().start(&stage, &core, &scene, number)?;
        load(&stage, &subject, *workload)?;
        let cell = Cell {
            workload: workload.name().to_owned(),
            instructions: 1e9 / load(&stage, &subject, *workload)?,
        };
        say(&serde_json::to_string(&cell)?);
    }
    Ok(())
}

/// Requests a second.
fn load(stage: &Stage, subject: &Subject, workload: Workload) -> Result<f64> {
    let (client, place, name) = (&stage.rig.client, subject.place(), host(0));
    let plain = |bytes: u32, reuse| {
        let url = format!("http://{EDGE_V4}:{}/bytes/{bytes}", place.http);
        Wrk::new(&url, &name, reuse).rate(client, SECONDS)
    };
    match workload {
        Workload::KeepAlive | Workload::Local => plain(1024, Reuse::KeepAlive),
        Workload::NewConnection => plain(1024, Reuse::NewConnection),
        Workload::Large => plain(65536, Reuse::KeepAlive),
        Workload::Tls => {
            let url = format!("https://{name}:{}/bytes/1024", place.https);
            let names = stage.names();
            let wrk = Wrk::new(&url, &name, Reuse::KeepAlive).with_names(&names);
            wrk.rate(client, SECONDS)
        }
    }
}

/// Runs the suite, a machine for each path, two at a time. `machine` is a command that runs its
/// arguments on one.
pub(crate) fn run(
    machine: &[String],
    programs: &Programs,
    matrix: &Matrix,
    say: impl Fn(&str),
) -> Result<Report> {
    let bench = &there(programs, matrix)?;
    let mut figures = Vec::new();
    for pair in matrix.paths.chunks(2) {
        let names: Vec<_> = pair.iter().map(|path| path.name()).collect();
        say(&format!("boot a machine for each of {}", names.join(", ")));
        let cells = thread::scope(|scope| {
            let boot = |path: &Path| cells(machine, bench, *path);
            let booted: Vec<_> = pair
                .iter()
                .map(|path| scope.spawn(move || boot(path)))
                .collect();
            let joined = booted.into_iter().map(|thread| match thread.join() {
                Ok(cells) => cells,
                Err(_) => bail!("a thread panicked"),
            });
            joined.collect::<Result<Vec<_>>>()
        })?;
        figures.extend(cells);
    }
    let mut report = Report::new();
    for workload in &matrix.workloads {
        let measure = Measure {
            suite: "instructions",
            workload: workload.name(),
            metric: "whole machine",
            unit: "instructions a request",
        };
        let of = |cells: &[Cell]| {
            let cell = cells.iter().find(|cell| cell.workload == workload.name());
            cell.map(|cell| cell.instructions)
        };
        let baseline = figures.first().and_then(|cells| of(cells));
        for (path, cells) in matrix.paths.iter().zip(&figures) {
            let (Some(figure), Some(baseline)) = (of(cells), baseline) else {
                bail!("{} has no figure for {}", path.name(), workload.name());
            };
            report.add_row(measure, path.name(), &[figure]);
            let names = (path.name(), matrix.paths[0].name());
            report.add_ratio(measure, names, &[figure / baseline]);
        }
    }
    Ok(report)
}

/// The command that measures there, but for the path.
fn there(programs: &Programs, matrix: &Matrix) -> Result<Vec<String>> {
    let word = |path: &FilePath| path.display().to_string();
    let workloads = matrix
        .workloads
        .iter()
        .filter_map(ValueEnum::to_possible_value);
    let workloads: Vec<_> = workloads.map(|value| value.get_name().to_owned()).collect();
    Ok(vec![
        word(&env::current_exe()?),
        "instructions".to_owned(),
        "--sluice".to_owned(),
        word(&programs.sluice),
        "--origin".to_owned(),
        word(&programs.origin),
        format!("--services={}", matrix.services),
        format!("--workloads={}", workloads.join(",")),
    ])
}

fn cells(machine: &[String], bench: &[String], path: Path) -> Result<Vec<Cell>> {
    let (program, arguments) = machine.split_first().context("no machine is given")?;
    let output = Command::new(program)
        .args(arguments)
        .args(bench)
        .args(["--paths", path.name()])
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to start {program}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.success(), "{}: {text}", path.name());
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Of the emulated machine's time; one takes some ten.
const SECONDS: u32 = 1;
