//! The metrics that are counted by route, status and method, as text in parts.
//!
//! Invariant: no part is larger than [`SUMS_PER_PART`] series of one histogram, however many routes
//! there are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::exemplars::ByBucket;
use super::family::{LabelPairs, counter, encode, float, histogram, labels, summary};
use super::histogram::{Bounds, Lengths, Seconds, Sizes, Total};
use super::series::Series;
use super::tally::{Measure, Totals};
use super::{MetricsFormat, openmetrics};

/// The series of all workers with the same labels.
pub(crate) struct Sum {
    pub(crate) order: (String, String, String, String, u16, &'static str),
    labels: LabelPairs,
    pub(crate) totals: Totals,
    /// Of its durations, if any of its requests was part of a sampled trace.
    pub(crate) exemplars: Option<Box<ByBucket>>,
}

impl Sum {
    pub(crate) fn new(constant: &LabelPairs, series: &Series) -> Self {
        let key = &series.labels.key;
        let mut pairs = constant.clone();
        pairs.extend(labels([
            ("canary", ""),
            ("host", &*key.host),
            ("ingress", &*key.ingress),
            ("method", series.method.as_str()),
            ("namespace", &*key.namespace),
            ("path", &*key.path),
            ("service", &*key.service),
            ("status", &*series.status.to_string()),
        ]));
        let text = |text: &Arc<str>| text.to_string();
        Self {
            order: (
                text(&key.namespace),
                text(&key.ingress),
                text(&key.host),
                text(&key.path),
                series.status,
                series.method.as_str(),
            ),
            labels: pairs,
            totals: Totals::default(),
            exemplars: None,
        }
    }
}

/// How long connections to endpoints took, by Ingress and Service.
///
/// Source: ingress-nginx's summary of `$upstream_connect_time`, which its dashboard of request handling
/// reads.
pub(crate) fn upstream_latency(sums: &[Sum]) -> MetricFamily {
    let mut all: BTreeMap<[&str; 3], (LabelPairs, Total)> = BTreeMap::new();
    for sum in sums {
        let of = |name: &str| {
            let label = sum.labels.iter().find(|label| label.name() == name);
            label.map_or("", |label| label.value())
        };
        let key = [of("namespace"), of("ingress"), of("service")];
        let (_, total) = all.entry(key).or_insert_with(|| {
            let is_kept = |name: &str| !["host", "method", "path", "status"].contains(&name);
            let labels = sum.labels.iter().filter(|label| is_kept(label.name()));
            (labels.cloned().collect(), Total::default())
        });
        *total += sum.totals.of(Measure::ConnectDuration);
    }
    summary(
        "nginx_ingress_controller_ingress_upstream_latency_seconds",
        "For connections to endpoints, by Ingress and Service",
        all.into_values().map(|(labels, total)| {
            let seconds = float(total.sum) * Seconds::UNIT;
            (labels, total.buckets.iter().sum(), seconds)
        }),
    )
}

/// How many parts the text of these sums has.
pub(crate) fn parts(sums: &[Sum]) -> usize {
    FAMILIES.len() * sums.len().div_ceil(SUMS_PER_PART)
}

/// One of them; empty if there are fewer.
pub(crate) fn part(sums: &[Sum], index: usize, format: MetricsFormat) -> String {
    let parts_per_family = sums.len().div_ceil(SUMS_PER_PART).max(1);
    let (family, part) = (index / parts_per_family, index % parts_per_family);
    let (Some(make), Some(sums)) = (FAMILIES.get(family), sums.chunks(SUMS_PER_PART).nth(part))
    else {
        return String::new();
    };
    let family_of_part = make(sums);
    if format == MetricsFormat::OpenMetrics {
        let mut text = String::new();
        if part == 0 {
            openmetrics::head(&mut text, &family_of_part, &BTreeSet::new());
        }
        let has_exemplars = family_of_part.name() == REQUEST_DURATION;
        openmetrics::samples(&mut text, &family_of_part, |sum, bucket| {
            let exemplars = sums[sum].exemplars.as_ref();
            exemplars.filter(|_| has_exemplars)?[bucket].as_ref()
        });
        return text;
    }
    let text = encode(&[family_of_part]);
    if part == 0 {
        return text;
    }
    // HELP and TYPE stand once, before the first sample of a family.
    let samples = text.splitn(3, '\n').nth(2);
    samples.unwrap_or_default().to_owned()
}

/// The histogram whose buckets have exemplars.
const REQUEST_DURATION: &str = "nginx_ingress_controller_request_duration_seconds";

type MakeFamily = fn(&[Sum]) -> MetricFamily;

const FAMILIES: [MakeFamily; 8] = [
    |sums| {
        let requests = sums
            .iter()
            .map(|sum| (sum.labels.clone(), float(sum.totals.requests)));
        counter(
            "nginx_ingress_controller_requests",
            "Requests that have ended",
            requests,
        )
    },
    |sums| {
        of::<Seconds>(
            REQUEST_DURATION,
            "From the head of a request to the end of its response",
            sums,
            Measure::RequestDuration,
        )
    },
    |sums| {
        of::<Seconds>(
            "nginx_ingress_controller_response_duration_seconds",
            "From the choice of an endpoint to the end of its response",
            sums,
            Measure::ResponseDuration,
        )
    },
    |sums| {
        of::<Seconds>(
            "nginx_ingress_controller_header_duration_seconds",
            "From the choice of an endpoint to the head of its response",
            sums,
            Measure::HeaderDuration,
        )
    },
    |sums| {
        of::<Seconds>(
            "nginx_ingress_controller_connect_duration_seconds",
            "For a connection to an endpoint; none where one was open",
            sums,
            Measure::ConnectDuration,
        )
    },
    |sums| {
        of::<Lengths>(
            "nginx_ingress_controller_request_size",
            "Bytes of a request, head and body",
            sums,
            Measure::RequestSize,
        )
    },
    |sums| {
        of::<Lengths>(
            "nginx_ingress_controller_response_size",
            "Bytes of a response, head and body",
            sums,
            Measure::ResponseSize,
        )
    },
    |sums| {
        of::<Sizes>(
            "nginx_ingress_controller_bytes_sent",
            "Bytes of a response, head and body, in coarser buckets",
            sums,
            Measure::BytesSent,
        )
    },
];

fn of<B: Bounds>(name: &str, help: &str, sums: &[Sum], measure: Measure) -> MetricFamily {
    let samples = sums
        .iter()
        .map(|sum| (sum.labels.clone(), sum.totals.of(measure).clone()));
    histogram::<B>(name, help, samples)
}

/// Series of one family in one part: some 100 KiB of text.
const SUMS_PER_PART: usize = 32;
