//! What is aimed at, beside what was measured.

use super::peer::Peer;
use super::variant::{CACHED_AUTHENTICATION, LOGGED, TEN_ANNOTATIONS, UNSEEN};
use super::workload::{
    ANNOTATIONS, CHANGES, HTTP2, KEPT_ALIVE, LARGE, MANY_HOSTS, MEDIUM, NEW_CONNECTION, P256, RATE,
    ROUTES, RSA, SEEN, TLS,
};
use super::{ADDED_CPU, CHANGE, FAILED, LATENCY, MEMORY, PROXY_CPU, START};
use crate::report::{Goal, Report};

/// A figure of Sluice, and how large it may be.
struct Aim {
    workload: &'static str,
    metric: &'static str,
    /// In terms of whose.
    baseline: Baseline,
    at_most: f64,
}

#[derive(Clone, Copy)]
enum Baseline {
    /// The median of the ratios of the pairs.
    Pairs(&'static str, &'static str),
    /// The ratio of the medians: one is measured after the other.
    Medians(&'static str),
    /// The figure itself, of this subject.
    Nobody(&'static str),
}

/// The goals that this report has figures for.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    AIMS.iter().filter_map(|aim| aim.judge(report)).collect()
}

impl Aim {
    fn judge(&self, report: &Report) -> Option<Goal> {
        let row = |subject: &str| {
            report.rows.iter().find(|row| {
                row.workload == self.workload && row.metric == self.metric && row.subject == subject
            })
        };
        let (what, median) = match self.baseline {
            Baseline::Pairs(subject, baseline) => {
                let ratio = report.ratios.iter().find(|ratio| {
                    ratio.workload == self.workload
                        && ratio.metric == self.metric
                        && ratio.subject == subject
                        && ratio.baseline == baseline
                })?;
                let what = if subject == SLUICE {
                    format!("{} / {baseline}", self.metric)
                } else {
                    format!("{} of {subject} / {baseline}", self.metric)
                };
                (what, ratio.median)
            }
            Baseline::Medians(baseline) => (
                format!("{} / {baseline}", self.metric),
                row(SLUICE)?.median / row(baseline)?.median,
            ),
            Baseline::Nobody(subject) => {
                let row = row(subject)?;
                let what = if subject == SLUICE {
                    format!("{} {}", self.metric, row.unit)
                } else {
                    format!("{} {} of {subject}", self.metric, row.unit)
                };
                (what, row.median)
            }
        };
        Some(Goal {
            workload: self.workload.to_owned(),
            what,
            at_most: self.at_most,
            median,
            met: median <= self.at_most,
        })
    }
}

const fn cpu(workload: &'static str, baseline: Peer, at_most: f64) -> Aim {
    let baseline = Baseline::Pairs(SLUICE, baseline.name());
    aim(workload, PROXY_CPU, baseline, at_most)
}

const fn figure(workload: &'static str, metric: &'static str, at_most: f64) -> Aim {
    aim(workload, metric, Baseline::Nobody(SLUICE), at_most)
}

const fn aim(
    workload: &'static str,
    metric: &'static str,
    baseline: Baseline,
    at_most: f64,
) -> Aim {
    Aim {
        workload,
        metric,
        baseline,
        at_most,
    }
}

const SLUICE: &str = Peer::Sluice.name();

const AIMS: [Aim; 27] = [
    cpu(KEPT_ALIVE, Peer::Nginx, 1.0),
    cpu(KEPT_ALIVE, Peer::Haproxy, 0.85),
    cpu(KEPT_ALIVE, Peer::Envoy, 0.3),
    cpu(KEPT_ALIVE, Peer::Pingora, 0.5),
    cpu(NEW_CONNECTION, Peer::Nginx, 1.0),
    cpu(MEDIUM, Peer::Nginx, 1.0),
    cpu(LARGE, Peer::Nginx, 1.0),
    cpu(HTTP2, Peer::Haproxy, 1.0),
    cpu(TLS, Peer::Nginx, 0.95),
    cpu(P256, Peer::Nginx, 0.9),
    cpu(P256, Peer::Haproxy, 1.0),
    cpu(P256, Peer::Envoy, 1.0),
    cpu(P256, Peer::Pingora, 1.0),
    cpu(RSA, Peer::Nginx, 1.0),
    aim(RATE, LATENCY, Baseline::Pairs(SLUICE, "nginx"), 1.0),
    aim(
        ROUTES,
        PROXY_CPU,
        Baseline::Pairs("sluice, 100000 routes", "sluice, 10 routes"),
        1.05,
    ),
    aim(SEEN, PROXY_CPU, Baseline::Pairs(SLUICE, UNSEEN), 1.05),
    aim(SEEN, PROXY_CPU, Baseline::Pairs(LOGGED, SLUICE), 1.05),
    aim(SEEN, PROXY_CPU, Baseline::Pairs(LOGGED, UNSEEN), 1.05),
    aim(
        ANNOTATIONS,
        ADDED_CPU,
        Baseline::Nobody(TEN_ANNOTATIONS),
        3.0,
    ),
    aim(
        ANNOTATIONS,
        ADDED_CPU,
        Baseline::Nobody(CACHED_AUTHENTICATION),
        5.0,
    ),
    cpu(MANY_HOSTS, Peer::Haproxy, 1.0),
    aim(MANY_HOSTS, MEMORY, Baseline::Medians("haproxy"), 1.0),
    figure(MANY_HOSTS, START, 0.5),
    figure(MANY_HOSTS, CHANGE, 5.0),
    figure(CHANGES, FAILED, 0.0),
    figure(CHANGES, CHANGE, 2.0),
];
