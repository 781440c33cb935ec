//! What each worker counts beside requests, under names of our own.

use prometheus::proto::MetricFamily;

use super::family::{LabelPairs, counter, float, gauge, labels};
use crate::proxy::runtime::counters::{DatapathSnapshot, WorkerSnapshot};

/// A number of a worker: its name, what it means, and where it is.
type Number<S> = (&'static str, &'static str, fn(&S) -> u64);

/// The families of these workers.
pub(crate) fn families(workers: &[WorkerSnapshot]) -> Vec<MetricFamily> {
    let of_worker = |worker: &WorkerSnapshot| labels([("worker", &*worker.worker.to_string())]);
    let samples = |number: fn(&WorkerSnapshot) -> u64| {
        workers
            .iter()
            .map(move |worker| (of_worker(worker), float(number(worker))))
    };
    let by_datapath = |number: fn(&DatapathSnapshot) -> u64| {
        workers.iter().flat_map(move |worker| {
            let of = |datapath, snapshot| {
                let worker = worker.worker.to_string();
                let pairs = labels([("datapath", datapath), ("worker", &*worker)]);
                (pairs, float(number(snapshot)))
            };
            [of("netns", &worker.netns), of("host", &worker.host)]
        })
    };
    let counters = COUNTERS
        .iter()
        .map(|(name, help, number)| counter(name, help, samples(*number)));
    let gauges = GAUGES
        .iter()
        .map(|(name, help, number)| gauge(name, help, samples(*number)));
    let datapath = DATAPATH_COUNTERS
        .iter()
        .map(|(name, help, number)| counter(name, help, by_datapath(*number)));
    let open = gauge(
        "sluice_connections_open",
        "Connections of clients",
        by_datapath(|datapath| datapath.connections_open),
    );
    let asleep = gauge(
        "sluice_connections_asleep",
        "Connections of clients that are idle and keep no buffers",
        by_datapath(|datapath| datapath.connections_asleep),
    );
    let ratio = gauge(
        "sluice_upstream_reuse_ratio",
        "Share of requests to endpoints that went over a connection that was open",
        reuse_ratio(workers).map(|ratio| (LabelPairs::new(), ratio)),
    );
    counters
        .chain(gauges)
        .chain(datapath)
        .chain([open, asleep, responses(workers), ratio])
        .collect()
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

const COUNTERS: &[Number<WorkerSnapshot>] = &[
    (
        "sluice_upstream_connects_total",
        "Connections to endpoints that were opened",
        |worker| worker.upstream_connects,
    ),
    (
        "sluice_upstream_connect_failures_total",
        "Connections to endpoints that were refused, broke or timed out before they were open",
        |worker| worker.upstream_connect_failures,
    ),
    (
        "sluice_upstream_connects_abandoned_total",
        "Connections to endpoints that were given up because the endpoint was removed meanwhile",
        |worker| worker.upstream_connects_abandoned,
    ),
    (
        "sluice_upstream_reuses_total",
        "Requests sent over a connection that had carried one before",
        |worker| worker.upstream_reuses,
    ),
    (
        "sluice_upstream_borrows_total",
        "Connections to endpoints that another worker had to spare",
        |worker| worker.upstream_borrows,
    ),
    (
        "sluice_upstream_replays_total",
        "Requests sent again because the endpoint had closed the reused connection",
        |worker| worker.upstream_replays,
    ),
    (
        "sluice_upstream_retries_total",
        "Requests sent to another endpoint than the first",
        |worker| worker.upstream_retries,
    ),
    (
        "sluice_upstream_ejections_total",
        "Times that an endpoint was left alone for a while",
        |worker| worker.upstream_ejections,
    ),
    (
        "sluice_upstream_queued_total",
        "Requests that found no room at any endpoint of their backend",
        |worker| worker.upstream_queued,
    ),
    (
        "sluice_upstream_rejections_total",
        "Requests that found no room in time",
        |worker| worker.upstream_rejections,
    ),
    (
        "sluice_tunnels_total",
        "Connections and streams that left HTTP",
        |worker| worker.tunnels,
    ),
    (
        "sluice_relay_failures_total",
        "TCP connections to be carried as they are that reached no endpoint",
        |worker| worker.relay_failures,
    ),
    (
        "sluice_relayed_bytes_total",
        "Bytes of TCP connections that were carried as they are and have ended",
        |worker| worker.relayed_bytes,
    ),
    (
        "sluice_spliced_bytes_total",
        "Bytes of responses and tunnels that the kernel moved between two sockets without a copy",
        |worker| worker.spliced_bytes,
    ),
    (
        "sluice_udp_sessions_total",
        "Sessions of UDP services",
        |worker| worker.udp_sessions,
    ),
    (
        "sluice_udp_datagrams_total",
        "Datagrams of UDP services that were carried",
        |worker| worker.udp_datagrams,
    ),
    (
        "sluice_udp_datagrams_dropped_total",
        "Datagrams of UDP services that were dropped: no endpoint, too many sessions, a full socket",
        |worker| worker.udp_datagrams_dropped,
    ),
    (
        "sluice_client_certificate_refusals_total",
        "Requests refused because their client has not shown a certificate that is good",
        |worker| worker.client_certificate_refusals,
    ),
    (
        "sluice_misdirected_requests_total",
        "Requests for a host that asks for other client certificates than their connection's did",
        |worker| worker.misdirected,
    ),
    (
        "sluice_stalled_responses_closed_total",
        "Responses closed because clients that do not read held too much memory",
        |worker| worker.stalled_closed,
    ),
    (
        "sluice_panics_total",
        "Connections and streams ended by a panic",
        |worker| worker.panics,
    ),
    (
        "sluice_access_log_lines_total",
        "Lines of the access log that were handed over to be written",
        |worker| worker.log_lines,
    ),
    (
        "sluice_access_log_lines_dropped_total",
        "Lines of the access log that were dropped, because writing is too slow",
        |worker| worker.log_lines_dropped,
    ),
];

const GAUGES: &[Number<WorkerSnapshot>] = &[
    (
        "sluice_worker_generation",
        "The configuration that a worker serves",
        |worker| worker.generation,
    ),
    (
        "sluice_worker_running",
        "Whether a worker's thread runs",
        |worker| u64::from(worker.is_running),
    ),
    (
        "sluice_upstream_idle_connections",
        "Connections to endpoints that are idle",
        |worker| worker.upstream_idle,
    ),
    (
        "sluice_requests_open",
        "Requests that are being answered",
        |worker| worker.requests_open,
    ),
    (
        "sluice_stalled_responses",
        "Responses whose clients do not read them",
        |worker| worker.stalled,
    ),
    (
        "sluice_udp_sessions_open",
        "Sessions of UDP services that are open",
        |worker| worker.udp_sessions_open,
    ),
    (
        "sluice_tunnels_open",
        "Connections and streams that have left HTTP",
        |worker| worker.tunnels_open,
    ),
];

const DATAPATH_COUNTERS: &[Number<DatapathSnapshot>] = &[
    (
        "sluice_connections_accepted_total",
        "Connections of clients",
        |datapath| datapath.connections_accepted,
    ),
    (
        "sluice_accept_errors_total",
        "Connections of clients that could not be taken",
        |datapath| datapath.accept_errors,
    ),
    (
        "sluice_tls_handshake_failures_total",
        "TLS handshakes that failed or timed out",
        |datapath| datapath.tls_handshake_failures,
    ),
    (
        "sluice_proxy_header_failures_total",
        "Connections without a good header of the PROXY protocol where one has to be",
        |datapath| datapath.proxy_header_failures,
    ),
    (
        "sluice_client_limit_refusals_total",
        "Connections reset because their client had as many as it may have",
        |datapath| datapath.client_limit_refusals,
    ),
    (
        "sluice_source_refusals_total",
        "Connections reset because their network may not open any",
        |datapath| datapath.source_refusals,
    ),
    ("sluice_requests_total", "Requests read", |datapath| {
        datapath.requests
    }),
];
