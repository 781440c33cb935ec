//! Packet paths: NodePort through kube-proxy's rules into a proxy pod; a listener on the host with
//! those rules present; the ingress netns. Sluice is the proxy in each.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::core::Core;
use crate::report::{Measure, Report};
use crate::rounds::{Effort, Rounds, figures, ratios, take_turns};
use crate::wrk::Wrk;
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::demo::Programs;
use ingress_tests::load::Reuse;
use ingress_tests::manifest::Manifest;
use ingress_tests::programs;
use ingress_tests::rig::{EDGE_V4, Options, POD1_V4, POD2_V4, Rig};
use ingress_tests::services::{self, NODE_PORT};

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
pub(crate) fn run(programs: &Programs, effort: Effort, say: impl Fn(&str)) -> Result<Report> {
    let mut report = Report::new();
    say("nanoseconds a packet of each program, by BPF_PROG_TEST_RUN");
    per_packet(&mut report)?;
    let core = Core::take(&format!("sluice-bench-{}", std::process::id()))?;
    say("build two edge nodes");
    let paths = Paths::build(programs)?;
    for count in SERVICES {
        paths.install_services(count)?;
        for (reuse, workload) in WORKLOADS {
            let name = format!("{workload}, {count} Services");
            say(&format!("{name}: {} pairs", effort.pairs));
            let runs = take_turns(&Subject::ALL, effort, |subject, seconds| {
                paths.measure(&core, subject, reuse, seconds)
            })?;
            add(&mut report, &name, &runs);
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
        let measure = Measure {
            suite: SUITE,
            workload: "one packet",
            metric: "program time",
            unit: "ns",
        };
        report.add_row(measure, &case, &figures);
    }
    Ok(())
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
        reuse: Reuse,
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
        let requests = Wrk::new(&url, HOST, reuse).run(&rig.client, seconds)?;
        let usage = core.since(&mark)?;
        if !usage.counts() {
            return Ok(None);
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
        let figure = usage.busy * 1e6 / requests as f64;
        Ok(Some(figure))
    }
}

fn add(report: &mut Report, workload: &str, rounds: &Rounds<Subject, f64>) {
    let measure = Measure {
        suite: SUITE,
        workload,
        metric: "total CPU",
        unit: "µs a request",
    };
    for subject in Subject::ALL {
        report.add_row(measure, subject.name(), &figures(rounds, subject, |f| *f));
    }
    for (subject, baseline) in [
        (Subject::Netns, Subject::Host),
        (Subject::Netns, Subject::NodePort),
        (Subject::Host, Subject::NodePort),
    ] {
        let names = (subject.name(), baseline.name());
        report.add_ratio(measure, names, &ratios(rounds, subject, baseline, |f| *f));
    }
}

const SUITE: &str = "datapath";
const HOST: &str = "bench.test";
const WORKLOADS: [(Reuse, &str); 2] = [
    (Reuse::KeepAlive, "1 KiB kept alive"),
    (Reuse::NewConnection, "new connection a request"),
];
const SERVICES: [usize; 3] = [0, 500, 5000];
const TEST_RUNS: usize = 5;
const TEST_RUN_REPEAT: u32 = 200_000;
