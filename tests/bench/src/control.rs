//! The control side at scale: 10,000 Ingresses on a real API server.
//!
//! Figures are seconds, milliseconds and bytes of one daemon, not ratios of peers: the only peer
//! that has figures for this publishes them as complaints, which stand beside ours as such.

mod objects;
mod webhook;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ingress_core::ir::{HostPattern, HostRules, ObjectRef, PathPattern, Rule, RuleOrigin, Target};
use ingress_core::route::RouteTable;

use self::objects::{Objects, Size};
use crate::report::Measure;
use crate::report::{Report, Row};
use ingress_tests::cluster::beside::Daemon;
use ingress_tests::cluster::control::{Audit, ControlPlane, Options};
use ingress_tests::cluster::programs::Programs;
use ingress_tests::rig::wait_within;

/// Runs the suite.
pub(crate) fn run(sluice: &std::path::Path, say: impl Fn(&str)) -> Result<Report> {
    let plane = ControlPlane::start(&Options {
        prefix: format!("bc{}", std::process::id()),
        programs: Programs::from_env(),
        audit: Audit::Off,
    })?;
    let mut suite = Suite {
        plane: &plane,
        sluice,
        report: Report::new(),
    };
    suite.row(
        "one of 100,000 hosts changed",
        "route compilation",
        "ms",
        &route_compilation(),
    );
    let empty = suite.daemon("empty")?.memory()?;
    let objects = Objects::new(&plane, SIZE);
    say(&format!(
        "create {} Ingresses and what they name",
        SIZE.ingresses
    ));
    objects.create()?;
    say("start without certificates");
    let plain = suite.daemon("plain")?.memory()?;
    say(&format!("create {} certificates", SIZE.certificates));
    objects.add_certificates()?;
    suite.start_and_rest(&objects, &say)?;
    suite.memory(empty, plain)?;
    say("change one Ingress at a time, then a thousand at once");
    suite.changes(&objects)?;
    say("ask the webhook about one Ingress");
    suite.reviews(&objects)?;
    say("write the addresses of all Ingresses");
    suite.statuses(&objects)?;
    let mut report = suite.report;
    let published = PUBLISHED.map(|(what, seconds)| published(what, seconds));
    report.rows.extend(published);
    Ok(report)
}

struct Suite<'a> {
    plane: &'a ControlPlane,
    sluice: &'a std::path::Path,
    report: Report,
}

impl<'a> Suite<'a> {
    fn row(&mut self, workload: &str, metric: &'static str, unit: &'static str, figures: &[f64]) {
        let measure = Measure {
            suite: "control",
            workload,
            metric,
            unit,
        };
        self.report.add_row(measure, "sluice", figures);
    }

    /// A daemon that is ready.
    fn daemon(&self, name: &str) -> Result<Daemon<'a>> {
        self.daemon_with(name, &["--update-status=false"])
    }

    fn daemon_with(&self, name: &str, flags: &[&str]) -> Result<Daemon<'a>> {
        Daemon::start(self.plane, self.sluice, name, flags)
    }

    fn start_and_rest(&mut self, objects: &Objects<'_>, say: &impl Fn(&str)) -> Result<()> {
        let (mut lists, mut starts, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
        for run in 1..=START_RUNS {
            say(&format!("start with everything, {run} of {START_RUNS}"));
            let list = objects.list()?.as_secs_f64();
            let start = self.daemon("start")?.start_time.as_secs_f64();
            lists.push(list);
            starts.push(start);
            beyond.push(start - list);
        }
        let all = format!("{SIZE}");
        self.row(&all, "the API's own lists", "s", &lists);
        self.row(&all, "start to ready", "s", &starts);
        self.row(&all, "start beyond the lists", "s", &beyond);
        let daemon = self.daemon("rest")?;
        std::thread::sleep(SETTLE);
        let rest = daemon.share_of_a_core(REST)?;
        self.row(&all, "CPU at rest", "% of a core", &[rest * 100.0]);
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "a share of some megabytes")]
    fn memory(&mut self, empty: u64, plain: u64) -> Result<()> {
        let daemon = self.daemon("memory")?;
        let full = daemon.memory()?;
        let kib = |bytes: u64, of: usize| bytes as f64 / 1024.0 / of as f64;
        let routes = kib(plain.saturating_sub(empty), SIZE.ingresses);
        let certificates = kib(full.saturating_sub(plain), SIZE.certificates);
        let all = format!("{SIZE}");
        self.row(&all, "memory of a route", "KiB", &[routes]);
        self.row(&all, "memory of a certificate", "KiB", &[certificates]);
        self.row(
            &all,
            "memory of the daemon",
            "MiB",
            &[full as f64 / 1024.0 / 1024.0],
        );
        Ok(())
    }

    fn changes(&mut self, objects: &Objects<'_>) -> Result<()> {
        let daemon = self.daemon("changes")?;
        let mut effects = Vec::new();
        for number in 0..CHANGES {
            let watcher = daemon.watch_for(&objects.host_of(number), &format!("/one{number}"))?;
            let before = Instant::now();
            objects.set_path(number, &format!("/one{number}"))?;
            effects.push((watcher.seen()? - before).as_secs_f64() * 1000.0);
        }
        effects.sort_by(f64::total_cmp);
        let tail = effects[effects.len() * 99 / 100];
        self.row("one Ingress changed", "on the wire, median", "ms", &effects);
        self.row("one Ingress changed", "on the wire, p99", "ms", &[tail]);

        let generation = daemon.generation()?;
        let began = Instant::now();
        objects.set_paths(BURST, "/burst")?;
        let written = began.elapsed();
        wait_within(BURST_MAX, "all changes of the burst", || {
            let served = |number| daemon.is_served(&objects.host_of(number), "/burst");
            for number in (0..BURST).rev() {
                if !served(number)? {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
        let served = began.elapsed();
        let generations = daemon.generation()? - generation;
        ensure!(generations >= 1, "nothing was published");
        let burst = format!("{BURST} Ingresses changed at once");
        self.row(
            &burst,
            "written by the API server",
            "s",
            &[written.as_secs_f64()],
        );
        let after = served.saturating_sub(written).as_secs_f64();
        self.row(&burst, "all on the wire after that", "s", &[after]);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        self.row(&burst, "generations published", "", &[generations as f64]);
        Ok(())
    }

    fn statuses(&mut self, objects: &Objects<'_>) -> Result<()> {
        let flags = ["--publish-status-address=192.0.2.1", "--election-ttl=3"];
        let began = Instant::now();
        let _daemon = Daemon::start(self.plane, self.sluice, "status", &flags)?;
        wait_within(STATUS_MAX, "all addresses", || {
            Ok(objects.with_address()? == SIZE.ingresses)
        })?;
        let took = began.elapsed().as_secs_f64();
        let all = format!("{} Ingresses", SIZE.ingresses);
        self.row(&all, "start to all addresses written", "s", &[took]);
        Ok(())
    }
}

/// Milliseconds to compile a table of 100,000 hosts in which one has changed.
fn route_compilation() -> Vec<f64> {
    let host = |number: usize| HostPattern::parse(&format!("host{number}.example.com"));
    let rules = |path: &str| {
        let rule = Rule {
            matches: PathPattern::prefix(path).into(),
            target: Target::Unavailable,
            policy: Arc::default(),
            origin: RuleOrigin {
                ingress: ObjectRef {
                    kind: "Ingress",
                    namespace: "bench".into(),
                    name: "bench".into(),
                },
                path: path.into(),
            },
        };
        Arc::new(HostRules {
            rules: vec![Arc::new(rule)],
            ..HostRules::default()
        })
    };
    let hosts: Vec<_> = (0..ROUTES)
        .filter_map(|number| Some((host(number).ok()?, rules("/"))))
        .collect();
    let pairs = hosts.iter().map(|(host, rules)| (host, rules));
    let mut table = RouteTable::compile(pairs, None, |_, _| ());
    let mut times = Vec::new();
    for (number, (host, _)) in hosts.iter().enumerate().step_by(ROUTES / 100) {
        let changed = rules(&format!("/changed{number}"));
        let before = Instant::now();
        table = table.with_changes([(host, Some(&changed))], None, |_, _| ());
        times.push(before.elapsed().as_secs_f64() * 1000.0);
    }
    times
}

/// What users of ingress-nginx have measured, with the thread that tells it.
fn published(what: &str, seconds: f64) -> Row {
    Row {
        suite: "control",
        workload: what.to_owned(),
        subject: "ingress-nginx (published)".to_owned(),
        metric: "as told by its users",
        unit: "s",
        median: seconds,
        min: seconds,
        max: seconds,
        runs: 0,
    }
}

const SIZE: Size = Size {
    ingresses: 10_000,
    hosts: 5_000,
    certificates: 2_000,
    endpoints_of_a_host: 2,
};
const ROUTES: usize = 100_000;
const START_RUNS: usize = 3;
const CHANGES: usize = 100;
const BURST: usize = 1_000;
const SETTLE: Duration = Duration::from_secs(3);
const REST: Duration = Duration::from_secs(20);
const BURST_MAX: Duration = Duration::from_mins(2);
const STATUS_MAX: Duration = Duration::from_mins(5);

const PUBLISHED: [(&str, f64); 4] = [
    ("initial sync of thousands (issue 1386)", 900.0),
    ("start with 100,000 hosts (issue 6844)", 1080.0),
    ("one reload with 100,000 hosts (issue 6844)", 12.0),
    ("admission of one label, 270 Ingresses (issue 11255)", 17.0),
];
