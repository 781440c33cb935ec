//! Families as text of OpenMetrics 1.0, for scrapers that ask for it.
//!
//! Series have the names that they have in the text format of Prometheus, so that dashboards and alerts
//! hold for both. OpenMetrics wants `_total` at the end of counters' names: ingress-nginx's counters
//! without it are of type `unknown`. Times of creation (`_created`) are left out: Prometheus would store
//! each as one more series.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::exemplars::Exemplar;

/// The content type of an answer in this format.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The end of the text, without which it counts as cut off.
pub(crate) const END: &str = "# EOF\n";

/// Writes families that are whole.
pub(crate) fn encode(families: &[MetricFamily]) -> String {
    let gauges = families.iter().filter(|one| !is_counter(one));
    let taken: BTreeSet<&str> = gauges.map(MetricFamily::name).collect();
    let mut out = String::new();
    for family in families {
        head(&mut out, family, &taken);
        samples(&mut out, family, |_, _| None);
    }
    out
}

/// Writes the metadata of a family, before its first sample. `taken` are names of other families.
pub(crate) fn head(out: &mut String, family: &MetricFamily, taken: &BTreeSet<&str>) {
    let full = family.name();
    let short = full.strip_suffix("_total").filter(|_| is_counter(family));
    let short = short.filter(|short| !taken.contains(short));
    let (name, kind) = match (short, family.get_field_type()) {
        (Some(short), _) => (short, "counter"),
        (None, MetricType::COUNTER | MetricType::UNTYPED) => (full, "unknown"),
        (None, MetricType::GAUGE) => (full, "gauge"),
        (None, MetricType::SUMMARY) => (full, "summary"),
        (None, MetricType::HISTOGRAM) => (full, "histogram"),
    };
    // Writing to a text does not fail.
    let _ = writeln!(out, "# TYPE {name} {kind}");
    for unit in UNITS {
        if name
            .strip_suffix(unit)
            .is_some_and(|rest| rest.ends_with('_'))
        {
            let _ = writeln!(out, "# UNIT {name} {unit}");
        }
    }
    let _ = write!(out, "# HELP {name} ");
    escape(out, family.help());
    out.push('\n');
}

/// Writes the samples of a family. `exemplar` gives that of a bucket, by the index of the metric.
pub(crate) fn samples<'a>(
    out: &mut String,
    family: &MetricFamily,
    exemplar: impl Fn(usize, usize) -> Option<&'a Exemplar>,
) {
    let name = family.name();
    for (index, metric) in family.get_metric().iter().enumerate() {
        let labels = metric.get_label();
        match family.get_field_type() {
            MetricType::COUNTER => {
                sample(
                    out,
                    (name, ""),
                    labels,
                    None,
                    metric.get_counter().get_value(),
                );
            }
            MetricType::GAUGE => {
                sample(
                    out,
                    (name, ""),
                    labels,
                    None,
                    metric.get_gauge().get_value(),
                );
            }
            MetricType::HISTOGRAM => {
                histogram(out, name, metric, |bucket| exemplar(index, bucket));
            }
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                let count = super::family::float(summary.sample_count());
                sample(out, (name, "_count"), labels, None, count);
                sample(out, (name, "_sum"), labels, None, summary.sample_sum());
            }
            MetricType::UNTYPED => {}
        }
    }
}

fn histogram<'a>(
    out: &mut String,
    name: &str,
    metric: &Metric,
    exemplar: impl Fn(usize) -> Option<&'a Exemplar>,
) {
    let histogram = metric.get_histogram();
    let count = super::family::float(histogram.get_sample_count());
    let bounds = histogram.get_bucket().iter().map(|bucket| {
        let count = super::family::float(bucket.cumulative_count());
        (bucket.upper_bound(), count)
    });
    let labels = metric.get_label();
    for (index, (bound, count)) in bounds.chain([(f64::INFINITY, count)]).enumerate() {
        sample(out, (name, "_bucket"), labels, Some(bound), count);
        if let Some(exemplar) = exemplar(index) {
            out.pop();
            exemplar.write(out);
            out.push('\n');
        }
    }
    sample(out, (name, "_count"), labels, None, count);
    sample(
        out,
        (name, "_sum"),
        labels,
        None,
        histogram.get_sample_sum(),
    );
}

fn sample(
    out: &mut String,
    (name, suffix): (&str, &str),
    labels: &[LabelPair],
    bound: Option<f64>,
    value: f64,
) {
    out.push_str(name);
    out.push_str(suffix);
    let mut separator = '{';
    for label in labels {
        out.push(separator);
        separator = ',';
        out.push_str(label.name());
        out.push_str("=\"");
        escape(out, label.value());
        out.push('"');
    }
    if let Some(bound) = bound {
        out.push(separator);
        separator = ',';
        out.push_str("le=\"");
        number(out, bound);
        out.push('"');
    }
    if separator == ',' {
        out.push('}');
    }
    out.push(' ');
    number(out, value);
    out.push('\n');
}

/// A number in its canonical form: whole ones end in `.0`.
fn number(out: &mut String, value: f64) {
    let _ = if value.is_infinite() && value > 0.0 {
        write!(out, "+Inf")
    } else {
        write!(out, "{value:?}")
    };
}

fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

fn is_counter(family: &MetricFamily) -> bool {
    family.get_field_type() == MetricType::COUNTER
}

/// Units that stand at the end of names.
const UNITS: [&str; 2] = ["bytes", "seconds"];

#[cfg(test)]
mod tests {
    use super::super::family::{counter, gauge, labels};
    use super::*;

    #[test]
    fn series_keep_their_names_and_families_have_their_own() {
        let one = |value| [(labels([("path", "/\"\\\n")]), value)];
        let families = [
            gauge("open", "Open", [(Vec::new(), 1.5)]),
            counter("open_total", "Opened", [(Vec::new(), 2.0)]),
            counter("read_bytes_total", "Read", one(3.0)),
            counter("requests", "Requests", one(1e21)),
        ];
        assert_eq!(
            encode(&families),
            "# TYPE open gauge\n# HELP open Open\nopen 1.5\n\
             # TYPE open_total unknown\n# HELP open_total Opened\nopen_total 2.0\n\
             # TYPE read_bytes counter\n# UNIT read_bytes bytes\n# HELP read_bytes Read\n\
             read_bytes_total{path=\"/\\\"\\\\\\n\"} 3.0\n\
             # TYPE requests unknown\n# HELP requests Requests\n\
             requests{path=\"/\\\"\\\\\\n\"} 1e21\n"
        );
    }
}
