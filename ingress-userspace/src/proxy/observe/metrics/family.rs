//! Makes metric families: one name with its samples.

use prometheus::TextEncoder;
use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Summary,
};

use super::histogram::{Bounds, Total};

/// Names and values of labels.
pub(crate) type LabelPairs = Vec<LabelPair>;

/// Labels of these names and values.
pub(crate) fn labels<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> LabelPairs {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.into_iter().map(pair).collect()
}

/// A number that only grows.
pub(crate) fn counter(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (LabelPairs, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(labels, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_counter(counter);
        metric
    });
    family(name, help, MetricType::COUNTER, samples.collect())
}

/// A number that grows and falls.
pub(crate) fn gauge(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (LabelPairs, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(labels, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = Metric::from_label(labels);
        metric.set_gauge(gauge);
        metric
    });
    family(name, help, MetricType::GAUGE, samples.collect())
}

/// Values by buckets.
pub(crate) fn histogram<B: Bounds>(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (LabelPairs, Total)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(labels, total)| {
        let mut count = 0;
        let cumulative = total.buckets.iter().map(|bucket| {
            count += bucket;
            count
        });
        let cumulative: Vec<u64> = cumulative.collect();
        let bucket = |(bound, count): (&f64, &u64)| {
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(*count);
            bucket
        };
        let mut histogram = Histogram::default();
        histogram.set_bucket(B::UPPER.iter().zip(&cumulative).map(bucket).collect());
        histogram.set_sample_count(count);
        histogram.set_sample_sum(float(total.sum) * B::UNIT);
        let mut metric = Metric::from_label(labels);
        metric.set_histogram(histogram);
        metric
    });
    family(name, help, MetricType::HISTOGRAM, samples.collect())
}

/// Counts and sums of values, without quantiles.
pub(crate) fn summary(
    name: &str,
    help: &str,
    samples: impl IntoIterator<Item = (LabelPairs, u64, f64)>,
) -> MetricFamily {
    let samples = samples.into_iter().map(|(labels, count, sum)| {
        let mut summary = Summary::default();
        summary.set_sample_count(count);
        summary.set_sample_sum(sum);
        let mut metric = Metric::from_label(labels);
        metric.set_summary(summary);
        metric
    });
    family(name, help, MetricType::SUMMARY, samples.collect())
}

fn family(name: &str, help: &str, kind: MetricType, samples: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(samples);
    family
}

/// Prometheus has floating-point numbers only.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// The families in the text format of Prometheus.
pub(crate) fn encode(families: &[MetricFamily]) -> String {
    let mut text = String::new();
    if let Err(error) = TextEncoder::new().encode_utf8(families, &mut text) {
        tracing::warn!(%error, "failed to encode metrics");
    }
    text
}
