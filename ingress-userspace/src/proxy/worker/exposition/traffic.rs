//! Sums of the requests of each host, backend or route over all workers, for `sluice top` and the dashboard.

use std::collections::HashMap;

use crate::proxy::observe::metrics::histogram::{Bounds, Seconds};
use crate::proxy::observe::metrics::labels::LabelKey;
use crate::proxy::observe::metrics::tally::{Measure, Totals};
use crate::proxy::worker::exposition::Metrics;

/// The key that requests are summed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrafficBy {
    /// The host pattern of the rule.
    Host,
    /// The backend, as `namespace/service:port`.
    Backend,
    /// The rule, as its host pattern and its path one after the other.
    Route,
}

/// Sums of the requests of one host or backend, since the daemon started or the route was added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Empty for requests that match no rule, or that ask no backend.
    pub name: String,
    /// Requests that have ended.
    pub requests: u64,
    /// Those with a status of 4xx.
    pub client_errors: u64,
    /// Those with a status of 5xx.
    pub server_errors: u64,
    /// Bytes of requests.
    pub received: u64,
    /// Bytes of responses.
    pub sent: u64,
    /// Requests by their duration: up to each of [`DURATION_BOUNDS`], and above all of them.
    pub buckets: Vec<u64>,
}

/// Upper bounds of the buckets of durations, in seconds.
pub const DURATION_BOUNDS: &[f64] = Seconds::UPPER;

impl Metrics {
    /// The sums of all workers. Takes a while when there are many routes.
    pub fn traffic(&self, by: TrafficBy) -> Vec<Traffic> {
        let mut all: HashMap<String, Traffic> = HashMap::new();
        for series in self.workers.iter().flat_map(|worker| worker.series.all()) {
            let name = name(&series.labels.key, by);
            let one = all.entry(name).or_default();
            one.add(series.status, &series.tally.read());
        }
        let named = all.into_iter().map(|(name, one)| Traffic { name, ..one });
        named.collect()
    }
}

impl Traffic {
    fn add(&mut self, status: u16, totals: &Totals) {
        self.requests += totals.requests;
        match status / 100 {
            4 => self.client_errors += totals.requests,
            5 => self.server_errors += totals.requests,
            _ => {}
        }
        self.received += totals.of(Measure::RequestSize).sum;
        self.sent += totals.of(Measure::ResponseSize).sum;
        let buckets = &totals.of(Measure::RequestDuration).buckets;
        self.buckets.resize(DURATION_BOUNDS.len() + 1, 0);
        for (sum, more) in self.buckets.iter_mut().zip(buckets) {
            *sum += more;
        }
    }
}

fn name(key: &LabelKey, by: TrafficBy) -> String {
    match (by, &key.port) {
        (TrafficBy::Host, _) => key.host.to_string(),
        (TrafficBy::Route, _) => format!("{}{}", key.host, key.path),
        (TrafficBy::Backend, Some(port)) => format!("{}/{}:{port}", key.namespace, key.service),
        (TrafficBy::Backend, None) => String::new(),
    }
}
