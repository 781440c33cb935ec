//! What is aimed at, beside what was measured.

use super::peer::Peer;
use super::workload::{
    HTTP2, KEPT_ALIVE, LARGE, MANY_HOSTS, MEDIUM, NEW_CONNECTION, P256, RATE, RSA, TLS,
};
use super::{LATENCY, PROXY_CPU};
use crate::bench::report::{Goal, Report};

/// A figure of Sluice in terms of a peer's, and how large it may be.
struct Aim {
    workload: &'static str,
    metric: &'static str,
    baseline: Peer,
    at_most: f64,
}

/// The goals that this report has figures for.
pub(super) fn judge(report: &Report) -> Vec<Goal> {
    AIMS.iter().filter_map(|aim| aim.judge(report)).collect()
}

impl Aim {
    fn judge(&self, report: &Report) -> Option<Goal> {
        let ratio = report.ratios.iter().find(|ratio| {
            ratio.workload == self.workload
                && ratio.metric == self.metric
                && ratio.baseline == self.baseline.name()
        })?;
        Some(Goal {
            workload: self.workload.to_owned(),
            what: format!("{} in terms of {}", self.metric, self.baseline.name()),
            at_most: self.at_most,
            median: ratio.median,
            met: ratio.median <= self.at_most,
        })
    }
}

const fn cpu(workload: &'static str, baseline: Peer, at_most: f64) -> Aim {
    against(workload, PROXY_CPU, baseline, at_most)
}

const fn against(
    workload: &'static str,
    metric: &'static str,
    baseline: Peer,
    at_most: f64,
) -> Aim {
    Aim {
        workload,
        metric,
        baseline,
        at_most,
    }
}

const AIMS: [Aim; 12] = [
    cpu(KEPT_ALIVE, Peer::Nginx, 1.0),
    cpu(KEPT_ALIVE, Peer::Haproxy, 0.85),
    cpu(NEW_CONNECTION, Peer::Nginx, 1.0),
    cpu(MEDIUM, Peer::Nginx, 1.0),
    cpu(LARGE, Peer::Nginx, 1.0),
    cpu(HTTP2, Peer::Haproxy, 1.0),
    cpu(TLS, Peer::Nginx, 0.95),
    cpu(P256, Peer::Nginx, 0.9),
    cpu(P256, Peer::Haproxy, 1.0),
    cpu(RSA, Peer::Nginx, 1.0),
    against(RATE, LATENCY, Peer::Nginx, 1.0),
    cpu(MANY_HOSTS, Peer::Haproxy, 1.0),
];
