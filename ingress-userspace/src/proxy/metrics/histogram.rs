//! Histograms that one worker writes and anybody reads, without a lock.
//!
//! A histogram is in two places: its sum and the bucket of its first value, which nearly all fall
//! into that come later, stand beside those of the others of a series, so that a request is counted
//! in all of them on two lines of the cache. Among many routes those lines are what counting costs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::proxy::counters::Counter;

/// What of a histogram nearly every value changes.
#[derive(Debug, Default)]
pub(in super::super) struct Near {
    sum: Counter,
    usual: Usual,
}

/// The bucket that the first value fell into, and how many have: both in one number, so that no
/// reader takes one without the other.
#[derive(Debug, Default)]
struct Usual(AtomicU64);

impl Usual {
    /// Counts a value of this bucket, unless another's is counted here. Only the owning worker's
    /// thread calls this.
    fn count(&self, bucket: usize) -> bool {
        let (counted, bucket) = (self.0.load(Ordering::Relaxed), bucket as u64 + 1);
        let is_here = counted == 0 || counted & BUCKET == bucket;
        if is_here {
            self.0.store((counted | bucket) + ONE, Ordering::Relaxed);
        }
        is_here
    }

    /// Which bucket it is, and what was counted, if anything was.
    fn value(&self) -> Option<(usize, u64)> {
        let counted = self.0.load(Ordering::Relaxed);
        let bucket = usize::try_from(counted & BUCKET).ok()?.checked_sub(1)?;
        Some((bucket, counted / ONE))
    }
}

/// The bits that the bucket has, from 1; the count has those above.
const BUCKET: u64 = ONE - 1;
const ONE: u64 = 1 << 8;

/// How often a value fell into which bucket. The bounds are ingress-nginx's.
pub(in super::super) struct Histogram<'a, B: Bounds> {
    pub(in super::super) near: &'a Near,
    /// One more than there are bounds: what is above all of them. The usual one stays empty.
    pub(in super::super) buckets: &'a B::Buckets,
}

/// Upper bounds of buckets.
pub(in super::super) trait Bounds {
    /// One counter for each bucket.
    type Buckets: Default + AsRef<[Counter]>;

    /// The bounds as Prometheus has them.
    const UPPER: &'static [f64];

    /// One of what is summed up, in what Prometheus has.
    const UNIT: f64;

    /// The first bucket that a value fits into.
    fn bucket(value: u64) -> usize;
}

/// A time, in microseconds.
#[derive(Debug)]
pub(in super::super) struct Seconds;

impl Bounds for Seconds {
    type Buckets = [Counter; 12];

    const UPPER: &'static [f64] = &[
        0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    ];

    const UNIT: f64 = 1e-6;

    fn bucket(micros: u64) -> usize {
        // Most are small.
        SECONDS_IN_MICROS
            .iter()
            .position(|bound| micros <= *bound)
            .unwrap_or(SECONDS_IN_MICROS.len())
    }
}

const SECONDS_IN_MICROS: [u64; 11] = [
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

/// Bytes of a request or response (`--length-buckets` of ingress-nginx).
#[derive(Debug)]
pub(in super::super) struct Lengths;

impl Bounds for Lengths {
    type Buckets = [Counter; 11];

    const UPPER: &'static [f64] = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];

    const UNIT: f64 = 1.0;

    fn bucket(bytes: u64) -> usize {
        let last = Self::UPPER.len();
        usize::try_from(bytes.div_ceil(10).saturating_sub(1)).map_or(last, |index| index.min(last))
    }
}

/// Bytes sent (`--size-buckets` of ingress-nginx).
#[derive(Debug)]
pub(in super::super) struct Sizes;

impl Bounds for Sizes {
    type Buckets = [Counter; 8];

    const UPPER: &'static [f64] = &[
        10.0,
        100.0,
        1_000.0,
        10_000.0,
        100_000.0,
        1_000_000.0,
        10_000_000.0,
    ];

    const UNIT: f64 = 1.0;

    fn bucket(bytes: u64) -> usize {
        let below = bytes.saturating_sub(1);
        below.checked_ilog10().map_or(0, |log| log as usize).min(7)
    }
}

impl<B: Bounds> Histogram<'_, B> {
    /// Counts one value. Only the owning worker's thread calls this.
    pub(in super::super) fn observe(&self, value: u64) {
        let bucket = B::bucket(value);
        if !self.near.usual.count(bucket) {
            self.buckets.as_ref()[bucket].increment();
        }
        self.near.sum.add(value);
    }

    /// What it has counted, added to what others have.
    pub(in super::super) fn add_to(&self, total: &mut Total) {
        let buckets = self.buckets.as_ref();
        total.buckets.resize(buckets.len(), 0);
        for (sum, bucket) in total.buckets.iter_mut().zip(buckets) {
            *sum += bucket.value();
        }
        if let Some((usual, count)) = self.near.usual.value() {
            total.buckets[usual] += count;
        }
        total.sum += self.near.sum.value();
    }
}

impl Histogram<'_, Seconds> {
    /// Counts a time.
    pub(in super::super) fn observe_time(&self, time: Duration) {
        self.observe(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }
}

/// The histograms of several workers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Total {
    /// Not cumulative.
    pub(in super::super) buckets: Vec<u64>,
    pub(in super::super) sum: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bucket of a value by the definition of Prometheus: the first bound that is no less.
    #[expect(clippy::cast_precision_loss, reason = "values are small")]
    fn by_definition<B: Bounds>(value: u64) -> usize {
        let value = value as f64 * B::UNIT;
        let fits = |bound: &f64| value <= *bound * (1.0 + 1e-12);
        B::UPPER.iter().position(fits).unwrap_or(B::UPPER.len())
    }

    #[test]
    fn a_value_falls_into_the_first_bucket_that_it_fits_into() {
        let values = (0..300).chain((1..9).flat_map(|power| {
            let bound = 10_u64.pow(power);
            [bound - 1, bound, bound + 1]
        }));
        for value in values.chain(SECONDS_IN_MICROS.iter().flat_map(|b| [b - 1, *b, b + 1])) {
            assert_eq!(
                Seconds::bucket(value),
                by_definition::<Seconds>(value),
                "{value}"
            );
            assert_eq!(
                Lengths::bucket(value),
                by_definition::<Lengths>(value),
                "{value}"
            );
            assert_eq!(
                Sizes::bucket(value),
                by_definition::<Sizes>(value),
                "{value}"
            );
        }
        assert_eq!(Lengths::bucket(u64::MAX), 10);
        assert_eq!(Sizes::bucket(u64::MAX), 7);
        assert_eq!(Seconds::bucket(u64::MAX), 11);
    }

    #[test]
    fn totals_add_up() {
        let (near, buckets) = Default::default();
        let a = Histogram::<Sizes> {
            near: &near,
            buckets: &buckets,
        };
        let (near, buckets) = Default::default();
        let b = Histogram::<Sizes> {
            near: &near,
            buckets: &buckets,
        };
        a.observe(5);
        b.observe(500);
        b.observe(5);
        b.observe(5_000);
        b.observe(501);
        let mut total = Total::default();
        a.add_to(&mut total);
        b.add_to(&mut total);
        assert_eq!(total.buckets, [2, 0, 2, 1, 0, 0, 0, 0]);
        assert_eq!(total.sum, 6_011);
    }
}
