//! Many hosts, and changes: what start, memory and a change cost, and whether anybody notices.

use std::thread;

use anyhow::{Context as _, Result, anyhow};

use super::ask::{self, Questions};
use super::peer::Peer;
use super::scene::{Backends, Scene, address, host};
use super::workload::{CHANGES, MANY_HOSTS};
use super::{Bench, SUITE};
use crate::report::Measure;
use crate::wrk::{Tally, Wrk};
use ingress_tests::load::Reuse;
use ingress_tests::rig::EDGE_V4;

/// Start, memory and a change of one endpoint, with 10,000 hosts that have one each.
pub(super) fn many_hosts(bench: &mut Bench<'_>, peer: Peer) -> Result<()> {
    let scene = Scene {
        hosts: 10_000,
        backends: Backends::Own,
        ..Scene::PLAIN
    };
    let (mut starts, mut memory, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for run in 0..RUNS {
        let subject = peer.start(bench.stage, bench.core, &scene, 0)?;
        starts.push(subject.start_time.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "some megabytes")]
        memory.push(subject.memory()? as f64 / 1024.0 / 1024.0);
        // The others change files as well as they are.
        let number = (run + 1) * 1_000;
        // An odd endpoint is on the second pod.
        let to = address(2 * number + 1);
        if let Some(from) = subject.change_endpoint(bench.stage, &scene, number, to)? {
            let (client, place) = (&bench.stage.rig.client, subject.place());
            let name = host(number);
            let at = ask::until_answered_by(client, (EDGE_V4, place.http), &name, "pod2")?;
            changes.push(milliseconds(from, at));
        }
    }
    for (metric, unit, figures) in [
        (super::START, "s", starts),
        (super::MEMORY, "MiB", memory),
        (super::CHANGE, "ms", changes),
    ] {
        let measure = measure(MANY_HOSTS, metric, unit);
        if !figures.is_empty() {
            bench.report.add_row(measure, peer.name(), &figures);
        }
    }
    Ok(())
}

/// Routes come and go while clients ask as much as they can: requests that fail, and milliseconds
/// until a new one is there.
pub(super) fn changes(bench: &mut Bench<'_>, peer: Peer) -> Result<()> {
    let scene = Scene::PLAIN;
    let subject = peer.start(bench.stage, bench.core, &scene, 0)?;
    if subject.change_hosts(bench.stage, &scene)?.is_none() {
        return Ok(());
    }
    let place = subject.place();
    let url = format!("http://{EDGE_V4}:{}/bytes/1024", place.http);
    let name = host(0);
    let seconds = bench.plan.effort.seconds * CHANGES_SECONDS;
    let wrk = Wrk::new(&url, &name, Reuse::KeepAlive);
    let mut load = wrk.command(&bench.stage.rig.client, seconds);
    let load = thread::spawn(move || load.output());
    let (client, to) = (&bench.stage.rig.client, (EDGE_V4, place.http));
    let questions = Questions::begin(client, to, &host(1))?;
    let mut lives = Vec::new();
    while !load.is_finished() {
        let more = Scene { hosts: 2, ..scene };
        let Some(from) = subject.change_hosts(bench.stage, &more)? else {
            break;
        };
        lives.push(milliseconds(from, questions.until_answered()?));
        subject.change_hosts(bench.stage, &scene)?;
        // Or the next one is there before it comes.
        questions.until_gone()?;
    }
    let output = load.join().map_err(|_| anyhow!("the load panicked"))??;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let tally = Tally::parse(&text).context("load during changes")?;
    if lives.is_empty() {
        return Ok(());
    }
    #[expect(clippy::cast_precision_loss, reason = "some millions")]
    let (answered, failed) = (tally.answered as f64, (tally.refused + tally.broken) as f64);
    for (metric, unit, figures) in [
        ("requests", "", vec![answered]),
        (super::FAILED, "", vec![failed]),
        (super::CHANGE, "ms", lives),
    ] {
        let measure = measure(CHANGES, metric, unit);
        bench.report.add_row(measure, peer.name(), &figures);
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "some seconds at most")]
fn milliseconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1e6
}

fn measure(workload: &'static str, metric: &'static str, unit: &'static str) -> Measure<'static> {
    Measure {
        suite: SUITE,
        workload,
        metric,
        unit,
    }
}

const RUNS: usize = 3;
/// Seconds of load during changes for each second of an ordinary run.
const CHANGES_SECONDS: u32 = 40;
