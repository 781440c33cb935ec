//! Clients in a flood of SYNs: without cookies, with those of the kernel, and with those of the guard.
//!
//! Flood, clients, node and pod share the machine, so figures say which way is better and by how much,
//! and not how large a flood a node of its own withstands.

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::edge::{self, HOST};
use crate::report::{Measure, Report};
use crate::rounds::{Effort, figures, ratios, take_turns};
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::demo::Programs;
use ingress_tests::flood::Flood;
use ingress_tests::host::link_address;
use ingress_tests::load::{Plan, Reuse};
use ingress_tests::neighbour::Neighbour;
use ingress_tests::rig::{EDGE_V4, Rig};

/// How SYNs beyond the queue are treated. In the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// They are dropped.
    Neither,
    /// The listener answers them by cookies.
    Kernel,
    /// The guard does.
    Guard,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Neither, Self::Kernel, Self::Guard];

    fn name(self) -> &'static str {
        match self {
            Self::Neither => "no-cookies",
            Self::Kernel => "kernel-cookies",
            Self::Guard => "guard-cookies",
        }
    }
}

/// Runs the suite; `say` is told what is being done.
pub(crate) fn run(programs: &Programs, effort: Effort, say: impl Fn(&str)) -> Result<Report> {
    let mut report = Report::new();
    say("build three edge nodes");
    let nodes = Subject::ALL.map(|subject| Node::build(programs, subject));
    let nodes = nodes.into_iter().collect::<Result<Vec<_>>>()?;
    for (rate, workload) in FLOODS {
        say(&format!("{workload}: {} rounds", effort.pairs));
        let rounds = take_turns(&Subject::ALL, effort, |subject, seconds| {
            nodes[subject as usize].measure(rate, seconds).map(Some)
        })?;
        let served = Measure {
            suite: "flood",
            workload,
            metric: "new connections served",
            unit: "a second",
        };
        let sent = Measure {
            metric: "SYNs of the flood",
            ..served
        };
        for subject in Subject::ALL {
            let name = subject.name();
            report.add_row(served, name, &figures(&rounds, subject, |seen| seen.served));
            report.add_row(sent, name, &figures(&rounds, subject, |seen| seen.sent));
        }
        let (guard, kernel) = (Subject::Guard, Subject::Kernel);
        let pairs = ratios(&rounds, guard, kernel, |seen| seen.served);
        report.add_ratio(served, (guard.name(), kernel.name()), &pairs);
    }
    Ok(report)
}

/// Of one run, a second.
struct Seen {
    served: f64,
    sent: f64,
}

/// An edge node with a daemon. Fields drop in order: the daemon goes first.
struct Node {
    _daemon: Running,
    /// veth devices deliver what XDP sends back only to a far end that has a program too.
    _far_end: Neighbour,
    mac: [u8; 6],
    rig: Rig,
}

impl Node {
    fn build(programs: &Programs, subject: Subject) -> Result<Self> {
        let (rig, manifests) = edge::build(programs, false)?;
        let threshold = match subject {
            Subject::Neither | Subject::Kernel => 0,
            Subject::Guard => 5000,
        };
        let daemon = Daemon::new(&rig, subject.name(), &manifests)
            .with("--datapath=netns")
            .with("--access-log=off")
            .with(&format!("--syn-flood-threshold={threshold}"));
        let running = daemon.start(&rig.edge)?;
        if subject == Subject::Neither {
            let names = daemon.arguments().iter();
            let mut names = names.filter_map(|it| it.strip_prefix("--ingress-netns="));
            let netns = names
                .next_back()
                .context("the daemon has no ingress netns")?;
            let off = "sysctl -qw net.ipv4.tcp_syncookies=0";
            rig.edge.sh(&format!("ip netns exec {netns} {off}"))?;
        }
        Ok(Self {
            _daemon: running,
            _far_end: Neighbour::xdp(&rig.switch, "edge")?,
            mac: link_address(&rig.edge, "eth0")?,
            rig,
        })
    }

    fn measure(&self, rate: Option<u32>, seconds: u32) -> Result<Seen> {
        let target: IpAddr = EDGE_V4.parse()?;
        let flood = match rate {
            Some(0) => None,
            rate => Some(Flood::start(
                &self.rig.client6,
                ("eth0", self.mac),
                (target, 80),
                rate,
            )?),
        };
        // Queues fill, and the daemon notices.
        thread::sleep(SETTLE);
        let plan = Plan {
            reuse: Reuse::NewConnection,
            ..Plan::kept_alive(EDGE_V4, HOST)?
        };
        let load = plan.start(&self.rig.client)?;
        thread::sleep(Duration::from_secs(seconds.into()));
        let answered = load.answered();
        let sent = flood.as_ref().map_or(0.0, Flood::rate);
        // Those that still wait for a connection are no fault of the run.
        load.stop()?;
        if let Some(flood) = flood {
            flood.stop()?;
        }
        #[expect(clippy::cast_precision_loss, reason = "requests of a few seconds")]
        let served = answered as f64 / f64::from(seconds);
        Ok(Seen { served, sent })
    }
}

const SETTLE: Duration = Duration::from_secs(2);
/// SYNs a second of the flood; none given: as many as this machine makes.
const FLOODS: [(Option<u32>, &str); 4] = [
    (Some(0), "no flood"),
    (Some(10_000), "10,000 SYNs a second"),
    (Some(100_000), "100,000 SYNs a second"),
    (None, "as many SYNs as there can be"),
];
