//! What each worker counts beside requests, under names of our own.

use prometheus::proto::MetricFamily;

use super::family::{LabelPairs, counter, float, gauge, labels};
use crate::proxy::runtime::counters::{
    DATAPATH_ROWS, DatapathSnapshot, Kind, MetricRow, WORKER_ROWS, WorkerSnapshot,
};

/// The families of these workers.
pub(crate) fn families(workers: &[WorkerSnapshot]) -> Vec<MetricFamily> {
    let of_worker = |worker: &WorkerSnapshot| labels([("worker", &*worker.worker.to_string())]);
    let samples = |number: fn(&WorkerSnapshot) -> u64| {
        let workers = workers.iter();
        let samples = workers.map(|worker| (of_worker(worker), float(number(worker))));
        samples.collect::<Vec<_>>()
    };
    let by_datapath = |number: fn(&DatapathSnapshot) -> u64| {
        let samples = workers.iter().flat_map(|worker| {
            let of = |datapath, snapshot| {
                let worker = worker.worker.to_string();
                let pairs = labels([("datapath", datapath), ("worker", &*worker)]);
                (pairs, float(number(snapshot)))
            };
            [of("netns", &worker.netns), of("host", &worker.host)]
        });
        samples.collect::<Vec<_>>()
    };
    let of_workers = WORKER_ROWS
        .iter()
        .map(|row| family(row, samples(row.value)));
    let of_datapaths = DATAPATH_ROWS
        .iter()
        .map(|row| family(row, by_datapath(row.value)));
    let running = gauge(
        "sluice_worker_running",
        "Whether a worker's thread runs",
        samples(|worker| u64::from(worker.is_running)),
    );
    let ratio = gauge(
        "sluice_upstream_reuse_ratio",
        "Share of requests to endpoints that went over a connection that was open",
        reuse_ratio(workers).map(|ratio| (LabelPairs::new(), ratio)),
    );
    of_workers
        .chain(of_datapaths)
        .chain([running, responses(workers), ratio])
        .collect()
}

fn family<S>(row: &MetricRow<S>, samples: Vec<(LabelPairs, f64)>) -> MetricFamily {
    match row.kind {
        Kind::Counter => counter(row.name, row.help, samples),
        Kind::Gauge => gauge(row.name, row.help, samples),
    }
}

/// `None` before the first request.
fn reuse_ratio(workers: &[WorkerSnapshot]) -> Option<f64> {
    let reuses: u64 = workers.iter().map(|worker| worker.upstream_reuses).sum();
    let connects: u64 = workers.iter().map(|worker| worker.upstream_connects).sum();
    let all = reuses + connects;
    (all > 0).then(|| float(reuses) / float(all))
}

fn responses(workers: &[WorkerSnapshot]) -> MetricFamily {
    let samples = workers.iter().flat_map(|worker| {
        let of = |datapath, class, count| {
            let worker = worker.worker.to_string();
            let pairs = [
                ("class", class),
                ("datapath", datapath),
                ("worker", &*worker),
            ];
            (labels(pairs), float(count))
        };
        let of_datapath = |datapath, snapshot: &DatapathSnapshot| {
            [
                of(datapath, "2xx", snapshot.responses_2xx),
                of(datapath, "3xx", snapshot.responses_3xx),
                of(datapath, "4xx", snapshot.responses_4xx),
                of(datapath, "5xx", snapshot.responses_5xx),
            ]
        };
        let netns = of_datapath("netns", &worker.netns);
        netns.into_iter().chain(of_datapath("host", &worker.host))
    });
    counter(
        "sluice_responses_total",
        "Responses by class of status",
        samples.collect::<Vec<_>>(),
    )
}
