//! Sluice beside its peers on the same node, doing the same work on one core.
//!
//! The figure is CPU time a request: of the proxy's processes, and in total with client and pods.

mod ask;
mod goal;
mod h2load;
pub(crate) mod instructions;
mod peer;
mod rate;
mod scale;
mod scene;
mod stage;
mod variant;
mod websocket;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

pub(crate) use peer::Peer;

use self::peer::Subject;
use self::stage::Stage;
use self::workload::{ANNOTATIONS, CHANGES, MANY_HOSTS, ROUTES, SEEN, WORKLOADS, Workload};
use crate::core::Core;
use crate::report::{Measure, Report, median};
use crate::rounds::{Effort, Rounds, figures, ratios, take_turns};
use ingress_tests::demo::Programs;

/// What is measured, and against whom.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// How much.
    pub effort: Effort,
    /// Part of the names of workloads; none: all of them.
    pub only: Vec<String>,
    /// Subjects besides Sluice.
    pub peers: Vec<Peer>,
    /// Directory of those that are not Debian's.
    pub programs: PathBuf,
    /// Another build of Sluice, which is a subject too.
    pub other: Option<PathBuf>,
}

/// What one run of a subject gave.
struct Cost {
    /// Microseconds of the proxy a request.
    proxy: f64,
    /// The same of everybody.
    total: f64,
    /// Median microseconds from request to answer, where the rate is given.
    latency: Option<f64>,
}

/// What the parts of the suite share.
struct Bench<'a> {
    core: &'a Core,
    stage: &'a Stage,
    plan: &'a Plan,
    peers: Vec<Peer>,
    report: Report,
}

/// Runs the suite; `say` is told what is being done.
pub(crate) fn run(programs: &Programs, plan: &Plan, say: impl Fn(&str)) -> Result<Report> {
    let mut peers = vec![Peer::Sluice];
    peers.extend(plan.other.is_some().then_some(Peer::Other));
    let ours = [Peer::Sluice, Peer::Other];
    peers.extend(plan.peers.iter().filter(|peer| !ours.contains(peer)));
    let core = Core::take(&format!("sluice-bench-{}", std::process::id()))?;
    say("build the edge node");
    let stage = Stage::set(programs, &plan.programs, plan.other.as_deref())?;
    let mut bench = Bench {
        core: &core,
        stage: &stage,
        plan,
        peers,
        report: Report::new(),
    };
    bench.workloads(&say)?;
    if plan.wants(ROUTES) {
        say("few and many routes");
        variant::routes(&mut bench)?;
    }
    if plan.wants(SEEN) {
        say("with and without metrics of requests and an access log");
        variant::seen(&mut bench)?;
    }
    if plan.wants(ANNOTATIONS) {
        say("with and without annotations");
        variant::annotations(&mut bench)?;
    }
    for peer in bench.peers.clone() {
        if plan.wants(MANY_HOSTS) {
            say(&format!("start, memory and a change: {}", peer.name()));
            scale::many_hosts(&mut bench, peer)?;
        }
        if plan.wants(CHANGES) {
            say(&format!("{CHANGES}: {}", peer.name()));
            scale::changes(&mut bench, peer)?;
        }
    }
    let mut report = bench.report;
    report.goals = goal::judge(&report);
    Ok(report)
}

impl Plan {
    fn wants(&self, workload: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| workload.contains(part))
    }
}

impl Bench<'_> {
    fn workloads(&mut self, say: &impl Fn(&str)) -> Result<()> {
        let wanted = WORKLOADS
            .iter()
            .filter(|workload| self.plan.wants(workload.name));
        let workloads: Vec<&Workload> = wanted.collect();
        let effort = self.plan.effort;
        for of_scene in workloads.chunk_by(|one, next| one.scene == next.scene) {
            say(&format!("start {}", names(&self.peers)));
            let subjects = start(self.stage, self.core, &self.peers, of_scene[0])?;
            for workload in of_scene {
                say(&format!("{}: {} pairs", workload.name, effort.pairs));
                let rounds = take_turns(&self.peers, effort, |peer, seconds| {
                    cost(self.core, self.stage, &subjects[&peer], workload, seconds)
                        .with_context(|| format!("{} with {}", workload.name, peer.name()))
                })?;
                add(&mut self.report, workload.name, &self.peers, &rounds);
                say(&summary(&self.peers, &rounds));
            }
        }
        Ok(())
    }
}

fn start(
    stage: &Stage,
    core: &Core,
    peers: &[Peer],
    workload: &Workload,
) -> Result<BTreeMap<Peer, Subject>> {
    let start = |peer: &Peer| Ok((*peer, peer.start(stage, core, &workload.scene, 0)?));
    peers.iter().map(start).collect()
}

/// What a request costs; nothing where the run does not count.
fn cost(
    core: &Core,
    stage: &Stage,
    subject: &Subject,
    workload: &Workload,
    seconds: u32,
) -> Result<Option<Cost>> {
    stage.rig.edge.flush_conntrack()?;
    let mark = core.mark()?;
    let before = subject.seconds()?;
    let done = workload.run(stage, subject, seconds)?;
    let proxy = subject.seconds()? - before;
    let usage = core.since(&mark)?;
    // Packets that arrive while the core is idle, as at a rate, are nobody's time.
    if !usage.counts() && done.latency.is_none() {
        return Ok(None);
    }
    #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
    let requests = done.count as f64;
    Ok(Some(Cost {
        proxy: proxy * 1e6 / requests,
        total: usage.busy * 1e6 / requests,
        latency: done.latency,
    }))
}

fn add(report: &mut Report, workload: &str, peers: &[Peer], rounds: &Rounds<Peer, Cost>) {
    let mut add = |metric, unit, value: &dyn Fn(&Cost) -> f64| {
        let measure = Measure {
            suite: SUITE,
            workload,
            metric,
            unit,
        };
        for peer in peers {
            report.add_row(measure, peer.name(), &figures(rounds, *peer, value));
        }
        for peer in peers.iter().filter(|peer| **peer != Peer::Sluice) {
            let names = (Peer::Sluice.name(), peer.name());
            report.add_ratio(measure, names, &ratios(rounds, Peer::Sluice, *peer, value));
        }
    };
    add(PROXY_CPU, "µs a request", &|cost| cost.proxy);
    add(TOTAL_CPU, "µs a request", &|cost| cost.total);
    let has_latency = rounds
        .iter()
        .flat_map(BTreeMap::values)
        .any(|cost| cost.latency.is_some());
    if has_latency {
        add(LATENCY, "µs", &|cost| cost.latency.unwrap_or_default());
    }
}

/// The figures of one workload in a line, for whoever waits for the others.
fn summary(peers: &[Peer], rounds: &Rounds<Peer, Cost>) -> String {
    let figure = |peer: &Peer| {
        let proxy = median(&figures(rounds, *peer, |cost| cost.proxy));
        let total = median(&figures(rounds, *peer, |cost| cost.total));
        format!("{} {proxy:.1} / {total:.1} µs", peer.name())
    };
    let figures: Vec<String> = peers.iter().map(figure).collect();
    format!("    {}", figures.join(", "))
}

fn names(peers: &[Peer]) -> String {
    let names: Vec<&str> = peers.iter().map(|peer| peer.name()).collect();
    names.join(", ")
}

const SUITE: &str = "proxy";
const PROXY_CPU: &str = "proxy CPU";
const ADDED_CPU: &str = "proxy CPU added";
const TOTAL_CPU: &str = "total CPU";
const LATENCY: &str = "median latency";
const START: &str = "start";
const MEMORY: &str = "memory";
const CHANGE: &str = "change live";
const FAILED: &str = "failed requests";
