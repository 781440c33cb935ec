//! Requests to a pod of the edge node, with the shortcut between the proxy and the pod and by TCP.

use anyhow::{Result, ensure};

use crate::core::Core;
use crate::edge::{self, HOST};
use crate::report::{Measure, Report};
use crate::rounds::{Effort, figures, ratios, take_turns};
use crate::wrk::Wrk;
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::demo::Programs;
use ingress_tests::load::Reuse;
use ingress_tests::rig::{EDGE_V4, Rig};

/// How bytes come from the proxy to the pod. In the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Tcp,
    Shortcut,
}

impl Subject {
    const ALL: [Self; 2] = [Self::Tcp, Self::Shortcut];

    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Shortcut => "shortcut",
        }
    }

    fn flag(self) -> &'static str {
        match self {
            Self::Tcp => "--shortcut=off",
            Self::Shortcut => "--shortcut=on",
        }
    }
}

/// Runs the suite; `say` is told what is being done.
pub(crate) fn run(programs: &Programs, effort: Effort, say: impl Fn(&str)) -> Result<Report> {
    let mut report = Report::new();
    let core = Core::take(&format!("sluice-bench-{}", std::process::id()))?;
    say("build two edge nodes");
    let nodes = [
        Node::build(programs, Subject::Tcp)?,
        Node::build(programs, Subject::Shortcut)?,
    ];
    for (path, workload) in WORKLOADS {
        say(&format!("{workload}: {} pairs", effort.pairs));
        let rounds = take_turns(&Subject::ALL, effort, |subject, seconds| {
            nodes[subject as usize].measure(&core, path, seconds)
        })?;
        let measure = Measure {
            suite: "shortcut",
            workload,
            metric: "total CPU",
            unit: "µs a request",
        };
        for subject in Subject::ALL {
            let runs = figures(&rounds, subject, |figure| *figure);
            report.add_row(measure, subject.name(), &runs);
        }
        let names = (Subject::Shortcut.name(), Subject::Tcp.name());
        let pairs = ratios(&rounds, Subject::Shortcut, Subject::Tcp, |figure| *figure);
        report.add_ratio(measure, names, &pairs);
    }
    let redirected = nodes[1].daemon.packets("shortcut", "redirected")?;
    ensure!(redirected > 10_000, "the shortcut was not taken");
    Ok(report)
}

/// An edge node with a daemon. Fields drop in order: the daemon goes first.
struct Node {
    daemon: Running,
    rig: Rig,
}

impl Node {
    fn build(programs: &Programs, subject: Subject) -> Result<Self> {
        let (rig, manifests) = edge::build(programs, true)?;
        let daemon = Daemon::new(&rig, subject.name(), &manifests)
            .with("--datapath=netns")
            .with("--workers=1")
            .with("--access-log=off")
            .with(subject.flag());
        Ok(Self {
            daemon: daemon.start(&rig.edge)?,
            rig,
        })
    }

    /// CPU time of one request, in microseconds; nothing where the run does not count.
    fn measure(&self, core: &Core, path: &str, seconds: u32) -> Result<Option<f64>> {
        let url = format!("http://{EDGE_V4}:80{path}");
        let mark = core.mark()?;
        let requests = Wrk::new(&url, HOST, Reuse::KeepAlive).run(&self.rig.client, seconds)?;
        let usage = core.since(&mark)?;
        #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
        let figure = usage.busy * 1e6 / requests as f64;
        Ok(usage.counts().then_some(figure))
    }
}

const WORKLOADS: [(&str, &str); 3] = [
    ("/bytes/1024", "1 KiB kept alive"),
    ("/bytes/65536", "64 KiB kept alive"),
    ("/bytes/1000000", "1 MB kept alive"),
];
