//! Numbers of a second, out of sums or out of single requests.

use std::collections::HashMap;
use std::time::Duration;

use crate::api::{TailEvent, Traffic};
use crate::proxy::DURATION_BOUNDS;

/// The rates of one host, backend, endpoint or client, for one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rates {
    pub(super) name: String,
    pub(super) requests: f64,
    pub(super) client_errors: f64,
    pub(super) server_errors: f64,
    /// Seconds; `None` without a request.
    pub(super) median: Option<f64>,
    pub(super) percentile_99: Option<f64>,
    /// Bytes.
    pub(super) received: f64,
    pub(super) sent: f64,
}

/// Sums at two instants.
pub(super) struct Sample<'a> {
    pub(super) before: &'a [Traffic],
    pub(super) after: &'a [Traffic],
    pub(super) elapsed: Duration,
}

impl Sample<'_> {
    pub(super) fn rates(&self) -> Vec<Rates> {
        let before: HashMap<&str, &Traffic> =
            self.before.iter().map(|one| (&*one.name, one)).collect();
        let none = Traffic::default();
        let rates = self.after.iter().map(|after| {
            let before = before.get(&*after.name).copied();
            // A daemon that started anew counts from 0.
            let before = before.filter(|before| before.requests <= after.requests);
            self.rate(before.unwrap_or(&none), after)
        });
        rates.collect()
    }

    fn rate(&self, before: &Traffic, after: &Traffic) -> Rates {
        let seconds = self.elapsed.as_secs_f64().max(f64::EPSILON);
        let rate = |of: fn(&Traffic) -> u64| float(of(after).saturating_sub(of(before))) / seconds;
        let buckets = after.duration_buckets.iter().enumerate();
        let buckets: Vec<u64> = buckets
            .map(|(index, after)| {
                let before = before.duration_buckets.get(index).copied();
                after.saturating_sub(before.unwrap_or(0))
            })
            .collect();
        Rates {
            name: named(&after.name),
            requests: rate(|one| one.requests),
            client_errors: rate(|one| one.client_errors),
            server_errors: rate(|one| one.server_errors),
            median: quantile(&buckets, 0.5),
            percentile_99: quantile(&buckets, 0.99),
            received: rate(|one| one.received),
            sent: rate(|one| one.sent),
        }
    }
}

/// What single requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Endpoint,
    Client,
}

/// Requests of the last second by their endpoint or client.
#[derive(Debug)]
pub(super) struct Counted {
    key: Key,
    all: HashMap<String, Requests>,
    taken: u64,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Requests {
    seconds: Vec<f64>,
    client_errors: u64,
    server_errors: u64,
    received: u64,
    sent: u64,
}

impl Counted {
    pub(super) fn by(key: Key) -> Self {
        Self {
            key,
            all: HashMap::new(),
            taken: 0,
            dropped: 0,
        }
    }

    pub(super) fn add(&mut self, event: TailEvent) {
        let line = match event {
            TailEvent::Dropped { requests } => {
                self.dropped += requests;
                return;
            }
            TailEvent::Request(line) => line,
        };
        self.taken += 1;
        let name = match (self.key, &line.endpoint, &line.service) {
            (Key::Client, _, _) => named(&line.client),
            (Key::Endpoint, Some(endpoint), Some(service)) => format!("{endpoint} {service}"),
            (Key::Endpoint, Some(endpoint), None) => endpoint.to_string(),
            (Key::Endpoint, None, _) => named(""),
        };
        let one = self.all.entry(name).or_default();
        one.seconds.push(line.seconds);
        match line.status / 100 {
            4 => one.client_errors += 1,
            5 => one.server_errors += 1,
            _ => {}
        }
        one.received += line.received;
        one.sent += line.sent;
    }

    /// Requests that the daemon dropped are shared out as those that it sent.
    pub(super) fn rates(self, elapsed: Duration) -> Vec<Rates> {
        let counted = float(self.taken.max(1));
        let factor = (float(self.dropped) + counted) / counted;
        let rate = |count: u64| float(count) * factor / elapsed.as_secs_f64().max(f64::EPSILON);
        let rates = self.all.into_iter().map(|(name, mut one)| {
            one.seconds.sort_unstable_by(f64::total_cmp);
            Rates {
                name,
                requests: rate(one.seconds.len() as u64),
                client_errors: rate(one.client_errors),
                server_errors: rate(one.server_errors),
                median: ranked(&one.seconds, 50),
                percentile_99: ranked(&one.seconds, 99),
                received: rate(one.received),
                sent: rate(one.sent),
            }
        });
        rates.collect()
    }
}

/// The percentile of a distribution.
fn ranked(sorted: &[f64], percent: usize) -> Option<f64> {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied()
}

/// A quantile of a histogram, between the bounds of its bucket (Prometheus: `histogram_quantile`).
fn quantile(buckets: &[u64], quantile: f64) -> Option<f64> {
    let all: u64 = buckets.iter().sum();
    if all == 0 {
        return None;
    }
    let rank = quantile * float(all);
    let mut below = 0.0;
    for (index, bucket) in buckets.iter().enumerate() {
        let count = float(*bucket);
        if below + count >= rank && count > 0.0 {
            let lower = index
                .checked_sub(1)
                .and_then(|index| DURATION_BOUNDS.get(index));
            let lower = lower.copied().unwrap_or(0.0);
            // Above all bounds, the last of them.
            let upper = DURATION_BOUNDS.get(index).copied().unwrap_or(lower);
            return Some(lower + (upper - lower) * (rank - below) / count);
        }
        below += count;
    }
    None
}

fn named(name: &str) -> String {
    if name.is_empty() { "-" } else { name }.to_owned()
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
fn float(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(requests: u64, buckets: &[u64]) -> Traffic {
        Traffic {
            name: "a.test".to_owned(),
            requests,
            server_errors: requests / 2,
            duration_buckets: buckets.to_vec(),
            ..Traffic::default()
        }
    }

    #[test]
    fn rates_are_differences_by_the_time_between() {
        let (before, after) = ([traffic(10, &[10, 0])], [traffic(30, &[10, 20])]);
        let rates = |before: &[Traffic], after: &[Traffic]| {
            let sample = Sample {
                before,
                after,
                elapsed: Duration::from_secs(2),
            };
            let mut rates = sample.rates();
            let Rates {
                requests,
                server_errors,
                median,
                ..
            } = rates.pop().unwrap();
            (format!("{requests} {server_errors}"), median)
        };
        let in_the_middle_of_its_bucket = Some(0.0075);
        assert_eq!(
            rates(&before, &after),
            ("10 5".to_owned(), in_the_middle_of_its_bucket)
        );
        let (started_anew, _) = rates(&after, &before);
        assert_eq!(started_anew, "5 2.5");
        let (of_a_new_host, _) = rates(&[], &before);
        assert_eq!(of_a_new_host, "5 2.5");
        assert_eq!(rates(&before, &before), ("0 0".to_owned(), None));
    }

    #[test]
    fn quantiles_above_all_bounds_are_the_last_bound() {
        let mut buckets = vec![0; DURATION_BOUNDS.len() + 1];
        buckets[DURATION_BOUNDS.len()] = 1;
        assert_eq!(quantile(&buckets, 0.99), Some(10.0));
        assert_eq!(ranked(&[], 99), None);
        assert_eq!(ranked(&[1.0, 2.0, 3.0], 50), Some(2.0));
        assert_eq!(ranked(&[1.0, 2.0, 3.0], 99), Some(3.0));
    }
}
