//! Buckets of histograms, which are ingress-nginx's, and what falls into them.

use std::ops::AddAssign;

/// Upper bounds of buckets.
pub(crate) trait Bounds {
    /// The bounds as Prometheus has them.
    const UPPER: &'static [f64];

    /// One of what is summed up, in what Prometheus has.
    const UNIT: f64;

    /// The first bucket that a value fits into: of one more than there are bounds, for what is
    /// above all of them.
    fn bucket(value: u64) -> usize;
}

/// A time, in microseconds.
#[derive(Debug)]
pub(crate) struct Seconds;

impl Bounds for Seconds {
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
pub(crate) struct Lengths;

impl Bounds for Lengths {
    const UPPER: &'static [f64] = &[10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 100.0];

    const UNIT: f64 = 1.0;

    fn bucket(bytes: u64) -> usize {
        let last = Self::UPPER.len();
        usize::try_from(bytes.div_ceil(10).saturating_sub(1)).map_or(last, |index| index.min(last))
    }
}

/// Bytes sent (`--size-buckets` of ingress-nginx).
#[derive(Debug)]
pub(crate) struct Sizes;

impl Bounds for Sizes {
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

/// What fell into the buckets of a histogram.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    /// Not cumulative.
    pub(crate) buckets: Vec<u64>,
    pub(crate) sum: u64,
}

impl AddAssign<&Self> for Total {
    fn add_assign(&mut self, other: &Self) {
        let buckets = self.buckets.len().max(other.buckets.len());
        self.buckets.resize(buckets, 0);
        for (sum, more) in self.buckets.iter_mut().zip(&other.buckets) {
            *sum += more;
        }
        self.sum += other.sum;
    }
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
}
