//! Sluice beside itself: what a request costs with many routes, with metrics of requests, with an access
//! log too, and with annotations.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::peer::{Peer, Subject};
use super::scene::Scene;
use super::workload::{ANNOTATIONS, Load, ROUTES, SEEN, Transport, Workload};
use super::{ADDED_CPU, Bench, Cost, PROXY_CPU, SUITE, cost};
use crate::report::Measure;
use crate::rounds::{Effort, Rounds, differences, figures, ratios, take_turns};
use ingress_tests::load::Reuse;

/// Few and many routes.
pub(super) fn routes(bench: &mut Bench<'_>) -> Result<()> {
    let variants = ROUTE_COUNTS.map(|hosts| Variant {
        name: format!("sluice, {hosts} routes"),
        scene: Scene {
            hosts,
            ..Scene::PLAIN
        },
        load: Load::EachHost,
    });
    side_by_side(bench, ROUTES, &variants).map(drop)
}

/// Requests that nobody sees; those that are counted by route; and those that are also told in an
/// access log in ingress-nginx's format, which goes to a pipe.
pub(super) fn seen(bench: &mut Bench<'_>) -> Result<()> {
    let variants = [
        (UNSEEN, false, false),
        (Peer::Sluice.name(), true, false),
        (LOGGED, true, true),
    ];
    let variants = variants.map(|(name, metrics, access_log)| Variant {
        name: name.to_owned(),
        scene: Scene {
            metrics,
            access_log,
            ..Scene::PLAIN
        },
        load: Load::Get(1024, Reuse::KeepAlive, Transport::Tcp),
    });
    side_by_side(bench, SEEN, &variants).map(drop)
}

/// Ingresses without annotations; with ten; and with an authentication service whose answer is cached.
pub(super) fn annotations(bench: &mut Bench<'_>) -> Result<()> {
    let variants: [(_, &[_]); 3] = [
        (Peer::Sluice.name(), &[]),
        (TEN_ANNOTATIONS, &TEN),
        (CACHED_AUTHENTICATION, &AUTHENTICATION),
    ];
    let variants = variants.map(|(name, annotations)| Variant {
        name: name.to_owned(),
        scene: Scene {
            annotations,
            ..Scene::PLAIN
        },
        load: Load::Get(1024, Reuse::KeepAlive, Transport::Tcp),
    });
    let rounds = side_by_side(bench, ANNOTATIONS, &variants)?;
    let measure = Measure {
        suite: SUITE,
        workload: ANNOTATIONS,
        metric: ADDED_CPU,
        unit: "µs a request",
    };
    for (turn, variant) in (0..).zip(&variants).skip(1) {
        let added = differences(&rounds, turn, 0, |cost| cost.proxy);
        bench.report.add_row(measure, &variant.name, &added);
    }
    Ok(())
}

/// Sluice on one scene.
struct Variant {
    name: String,
    scene: Scene,
    load: Load,
}

/// What a request costs each of them, in terms of the first and of the one before.
///
/// Each pair has processes of its own: one start differs from the next by two percent (where memory
/// happens to lie), so that many pairs of one start are one sample. Who comes first changes too.
fn side_by_side(
    bench: &mut Bench<'_>,
    name: &'static str,
    variants: &[Variant],
) -> Result<Rounds<u16, Cost>> {
    let effort = Effort {
        pairs: 1,
        ..bench.plan.effort
    };
    let mut turns: Vec<u16> = (0..).take(variants.len()).collect();
    let mut rounds = Vec::new();
    for _ in 0..bench.plan.effort.pairs {
        let subjects = start(bench, name, variants, &turns)?;
        rounds.extend(take_turns(&turns, effort, |turn, seconds| {
            let (workload, subject) = &subjects[&turn];
            cost(bench.core, bench.stage, subject, workload, seconds)
        })?);
        turns.reverse();
    }
    let measure = Measure {
        suite: SUITE,
        workload: name,
        metric: PROXY_CPU,
        unit: "µs a request",
    };
    for (turn, variant) in (0..).zip(variants) {
        let figures = figures(&rounds, turn, |cost| cost.proxy);
        bench.report.add_row(measure, &variant.name, &figures);
        let baselines = turn
            .checked_sub(1)
            .map(|before| BTreeSet::from([0, before]));
        for baseline in baselines.into_iter().flatten() {
            let names = (&*variant.name, &*variants[usize::from(baseline)].name);
            let ratios = ratios(&rounds, turn, baseline, |cost| cost.proxy);
            bench.report.add_ratio(measure, names, &ratios);
        }
    }
    Ok(rounds)
}

fn start(
    bench: &Bench<'_>,
    name: &'static str,
    variants: &[Variant],
    turns: &[u16],
) -> Result<BTreeMap<u16, (Workload, Subject)>> {
    let start = |turn: &u16| {
        let Variant { scene, load, .. } = &variants[usize::from(*turn)];
        let subject = Peer::Sluice.start(bench.stage, bench.core, scene, *turn + 1)?;
        let workload = Workload {
            name,
            scene: *scene,
            load: *load,
        };
        Ok((*turn, (workload, subject)))
    };
    turns.iter().map(start).collect()
}

const ROUTE_COUNTS: [usize; 4] = [10, 1_000, 10_000, 100_000];

/// Each has work to do for a request: they check, count, or change its head or that of its answer.
const TEN: [(&str, &str); 10] = [
    ("proxy-body-size", "8m"),
    ("proxy-read-timeout", "120"),
    ("whitelist-source-range", "10.0.0.0/8,192.0.2.0/24"),
    ("limit-rps", "1000000"),
    ("limit-connections", "10000"),
    ("enable-cors", "true"),
    ("cors-allow-origin", "https://app.bench.test"),
    ("upstream-vhost", "inner.bench.test"),
    ("x-forwarded-prefix", "/shop"),
    ("affinity", "cookie"),
];
const AUTHENTICATION: [(&str, &str); 3] = [
    ("auth-url", "http://10.5.0.1:8080/bytes/1"),
    ("auth-cache-key", "$remote_addr$http_authorization"),
    ("auth-cache-duration", "200 10m"),
];

pub(super) const TEN_ANNOTATIONS: &str = "sluice, ten annotations";
pub(super) const CACHED_AUTHENTICATION: &str = "sluice, cached authentication";
/// Neither metrics of requests nor an access log.
pub(super) const UNSEEN: &str = "sluice, requests unseen";
/// Both.
pub(super) const LOGGED: &str = "sluice, access log";
