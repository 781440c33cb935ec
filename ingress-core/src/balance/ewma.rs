//! How soon an endpoint is expected to answer: a peak-sensitive moving average of what it took.
//!
//! After Finagle's `p2c_peak_ewma`: a slow answer counts at once, and is forgotten with time.

use std::time::{Duration, Instant};

/// What recent answers of an endpoint took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PeakEwma {
    /// In seconds.
    average: f64,
    updated: Option<Instant>,
}

impl PeakEwma {
    /// An answer took so long.
    pub fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let average = self.decayed(now);
        self.average = if took > average {
            took
        } else {
            let weight = self.weight(now);
            self.average * weight + took * (1.0 - weight)
        };
        self.updated = Some(now);
    }

    /// What one more request is expected to wait, in nanoseconds, beside so many others.
    ///
    /// An endpoint that has not answered yet costs as much as its requests in flight alone: it is
    /// tried, and not by all at once.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and saturates"
    )]
    pub fn cost(&self, in_flight: u32, now: Instant) -> u64 {
        let average = if self.updated.is_some() {
            self.decayed(now).max(LEAST)
        } else if in_flight == 0 {
            LEAST
        } else {
            UNKNOWN
        };
        (average * 1e9 * (f64::from(in_flight) + 1.0)) as u64
    }

    fn decayed(&self, now: Instant) -> f64 {
        self.average * self.weight(now)
    }

    /// How much of the past still counts.
    fn weight(&self, now: Instant) -> f64 {
        let since = self.updated.map_or(Duration::MAX, |updated| {
            now.saturating_duration_since(updated)
        });
        (-since.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }
}

/// After how long about a third of a value still counts.
const DECAY: Duration = Duration::from_secs(10);

/// The least that an answer counts, in seconds: below, requests in flight decide.
const LEAST: f64 = 1e-6;

/// What an endpoint that has requests and has never answered is taken for, in seconds.
const UNKNOWN: f64 = 1.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_slow_answer_counts_at_once_and_is_forgotten_with_time() {
        let now = Instant::now();
        let mut slow = PeakEwma::default();
        slow.observe(millis(10), now);
        slow.observe(millis(500), now);
        let mut fast = PeakEwma::default();
        fast.observe(millis(10), now);
        assert!(slow.cost(0, now) > 40 * fast.cost(0, now));
        let mut later = now;
        for _ in 0..100 {
            later += Duration::from_secs(1);
            slow.observe(millis(10), later);
            fast.observe(millis(10), later);
        }
        assert!(slow.cost(0, later) < fast.cost(0, later) * 11 / 10);
    }

    #[test]
    fn requests_in_flight_cost_as_many_times() {
        let now = Instant::now();
        let mut ewma = PeakEwma::default();
        ewma.observe(millis(10), now);
        let (one, four) = (ewma.cost(0, now), ewma.cost(3, now));
        assert!(four.abs_diff(one * 4) <= 4, "{one} {four}");
    }

    #[test]
    fn an_unknown_endpoint_is_tried_once() {
        let now = Instant::now();
        let unknown = PeakEwma::default();
        let mut known = PeakEwma::default();
        known.observe(millis(1), now);
        assert!(unknown.cost(0, now) < known.cost(0, now));
        assert!(unknown.cost(1, now) > known.cost(5, now));
    }
}
