//! Packet paths: NodePort through kube-proxy's rules into a proxy pod; a listener on the host with
//! those rules present; the ingress netns. Sluice is the proxy in each.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::core::Core;
use super::report::{Machine, Ratio, Report, Row, spread};
use super::wrk::{self, Workload};
use crate::daemon::{Daemon, Running};
use crate::demo::Programs;
use crate::manifest::Manifest;
use crate::programs;
use crate::rig::{EDGE_V4, Options, POD1_V4, POD2_V4, Rig};
use crate::services::{self, NODE_PORT};

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Pairs of each comparison.
    pub pairs: u32,
    /// Seconds of each run.
    pub seconds: u32,
}

/// A path from client to pod. In the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    NodePort,
    Host,
    Netns,
}

impl Subject {
    const ALL: [Self; 3] = [Self::NodePort, Self::Host, Self::Netns];

    fn name(self) -> &'static str {
        match self {
            Self::NodePort => "nodeport",
            Self::Host => "host",
            Self::Netns => "netns",
        }
    }
}

/// Two rigs side by side, so that neither has the other's programs or rules.
struct Paths {
    _daemons: [Running; 3],
    plain: Rig,
    steered: Rig,
}

/// Runs the suite; `say` is told what is being done.
pub fn run(programs: &Programs, effort: Effort, say: impl Fn(&str)) -> Result<Report> {
    let mut report = Report {
        machine: Machine::here(),
        rows: Vec::new(),
        ratios: Vec::new(),
    };
    say("nanoseconds a packet of each program, by BPF_PROG_TEST_RUN");
    per_packet(&mut report)?;
    let core = Core::take(&format!("sluice-bench-{}", std::process::id()))?;
    say("build two edge nodes");
    let paths = Paths::build(programs)?;
    for count in SERVICES {
        paths.install_services(count)?;
        for workload in Workload::ALL {
            let name = format!("{}, {count} Services", workload.name());
            say(&format!("{name}: {} pairs", effort.pairs));
            let runs = compare(&core, &paths, workload, effort)?;
            report.add(&name, &runs);
        }
    }
    Ok(report)
}

fn per_packet(report: &mut Report) -> Result<()> {
    let mut runs: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..TEST_RUNS {
        for (case, nanoseconds) in programs::nanoseconds_per_packet(TEST_RUN_REPEAT)? {
            // Far below the 2^52 from which a float would round.
            #[expect(clippy::cast_precision_loss, reason = "nanoseconds of one packet")]
            runs.entry(case).or_default().push(nanoseconds as f64);
        }
    }
    for (case, figures) in runs {
        let (median, min, max) = spread(&figures);
        let workload = "one packet".to_owned();
        report.rows.push(Row {
            suite: SUITE,
            workload,
            subject: case,
            metric: "program time",
            unit: "ns",
            median,
            min,
            max,
            runs: figures.len(),
        });
    }
    Ok(())
}

/// The figures of each subject, in rounds: the runs of one round stand next to each other in time.
type Rounds = Vec<BTreeMap<Subject, f64>>;

fn compare(core: &Core, paths: &Paths, workload: Workload, effort: Effort) -> Result<Rounds> {
    let mut rounds = Rounds::new();
    let mut rejected = 0;
    for subject in Subject::ALL {
        paths.measure(core, subject, workload, 1)?;
    }
    while rounds.len() < effort.pairs as usize {
        let mut round = BTreeMap::new();
        for subject in Subject::ALL {
            match paths.measure(core, subject, workload, effort.seconds)? {
                Some(figure) => {
                    round.insert(subject, figure);
                }
                None => rejected += 1,
            }
        }
        if round.len() == Subject::ALL.len() {
            rounds.push(round);
        }
        if rejected > effort.pairs * REJECTED_MAX {
            bail!("other programs keep taking more than {OTHERS_MAX} of the core");
        }
    }
    Ok(rounds)
}

impl Paths {
    fn build(programs: &Programs) -> Result<Self> {
        let options = Options {
            services: 0,
            has_rules: true,
            origin: programs.origin.clone(),
            sluice: programs.sluice.clone(),
        };
        let plain = Rig::build(options.clone())?;
        let steered = Rig::build(options)?;
        for rig in [&plain, &steered] {
            rig.calm()?;
            Manifest::default()
                .serve(HOST, &[POD1_V4, POD2_V4])
                .save(&rig.path("manifests"))?;
        }
        let daemon = |rig: &Rig, name: &str, datapath: &str| {
            Daemon::new(rig, name, &rig.path("manifests"))
                .with(&format!("--datapath={datapath}"))
                .with("--workers=1")
                .with("--access-log=off")
        };
        let daemons = [
            daemon(&plain, "nodeport", "host").start(&plain.proxy)?,
            daemon(&plain, "host", "host").start(&plain.edge)?,
            daemon(&steered, "netns", "netns").start(&steered.edge)?,
        ];
        Ok(Self {
            _daemons: daemons,
            plain,
            steered,
        })
    }

    fn install_services(&self, count: usize) -> Result<()> {
        services::install(&self.plain.edge, count)?;
        services::install(&self.steered.edge, count)
    }

    /// CPU time of one request, in microseconds; nothing where the run does not count.
    fn measure(
        &self,
        core: &Core,
        subject: Subject,
        workload: Workload,
        seconds: u32,
    ) -> Result<Option<f64>> {
        let (rig, port) = match subject {
            Subject::NodePort => (&self.plain, NODE_PORT),
            Subject::Host => (&self.plain, 80),
            Subject::Netns => (&self.steered, 80),
        };
        rig.edge.flush_conntrack()?;
        let url = format!("http://{EDGE_V4}:{port}/bytes/1024");
        let mark = core.mark()?;
        let requests = wrk::run(&rig.client, &url, HOST, workload, seconds)?;
        let usage = core.since(&mark)?;
        if usage.others > OTHERS_MAX {
            return Ok(None);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
        let figure = usage.busy * 1e6 / requests as f64;
        Ok(Some(figure))
    }
}

impl Report {
    fn add(&mut self, workload: &str, rounds: &Rounds) {
        for subject in Subject::ALL {
            let figures: Vec<f64> = rounds.iter().map(|round| round[&subject]).collect();
            let (median, min, max) = spread(&figures);
            self.rows.push(Row {
                suite: SUITE,
                workload: workload.to_owned(),
                subject: subject.name().to_owned(),
                metric: METRIC,
                unit: "µs a request",
                median,
                min,
                max,
                runs: figures.len(),
            });
        }
        for (subject, baseline) in [
            (Subject::Netns, Subject::Host),
            (Subject::Netns, Subject::NodePort),
            (Subject::Host, Subject::NodePort),
        ] {
            let figures: Vec<f64> = rounds
                .iter()
                .map(|round| round[&subject] / round[&baseline])
                .collect();
            let (median, min, max) = spread(&figures);
            self.ratios.push(Ratio {
                suite: SUITE,
                workload: workload.to_owned(),
                metric: METRIC,
                subject: subject.name().to_owned(),
                baseline: baseline.name().to_owned(),
                median,
                min,
                max,
            });
        }
    }
}

const SUITE: &str = "datapath";
const METRIC: &str = "total CPU";
const HOST: &str = "bench.test";
const SERVICES: [usize; 3] = [0, 500, 5000];
/// Of one core, for a run to count.
const OTHERS_MAX: f64 = 0.15;
/// Rejected runs for each pair before the bench gives up.
const REJECTED_MAX: u32 = 10;
const TEST_RUNS: usize = 5;
const TEST_RUN_REPEAT: u32 = 200_000;
