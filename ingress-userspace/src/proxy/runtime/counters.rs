//! What a worker counts, and the sums that others may read.
//!
//! Each worker owns one [`Counters`] and is its only writer, so that counting is a plain load and
//! store on a cache line nobody else writes; readers see values that are at most one event old.
//!
//! A number stands in one list: its field, its name as a metric and what it means. The list makes the
//! counter, the snapshot that `sluice status` shows, and the table that metrics are made from.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

use crate::proxy::runtime::transport::Datapath;

/// One number, written by one thread and read by any.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Counts one event. Only the owning worker's thread calls this.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Counts several. Only the owning worker's thread calls this.
    pub(crate) fn add(&self, count: u64) {
        self.set(self.value().wrapping_add(count));
    }

    /// Takes one back from a gauge. Only the owning worker's thread calls this.
    pub(crate) fn decrement(&self) {
        let value = self.value();
        debug_assert!(value > 0, "a gauge never falls below zero");
        self.set(value.wrapping_sub(1));
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number as a metric.
pub(crate) struct MetricRow<S> {
    pub(crate) name: &'static str,
    pub(crate) help: &'static str,
    pub(crate) kind: Kind,
    pub(crate) value: fn(&S) -> u64,
}

/// How a number moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Up, until the daemon ends.
    Counter,
    /// Up and down.
    Gauge,
}

/// Makes the counters of a worker, their snapshot and their metrics of one list.
macro_rules! counters {
    (
        $(#[$counters_doc:meta])* counters $counters:ident $( { $($own:tt)* } )?;
        $(#[$snapshot_doc:meta])* snapshot $snapshot:ident { $($more:tt)* }
        $(#[$rows_doc:meta])* rows $rows:ident;
        $( $field:ident: $kind:ident, $name:literal, $help:literal; )+
    ) => {
        $(#[$counters_doc])*
        pub(crate) struct $counters {
            $($($own)*)?
            $( #[doc = $help] pub(crate) $field: Counter, )+
        }

        $(#[$snapshot_doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct $snapshot {
            $($more)*
            $( #[doc = $help] pub $field: u64, )+
        }

        impl $counters {
            /// A snapshot of the numbers in the list, on top of `rest`.
            fn snapshot_onto(&self, rest: $snapshot) -> $snapshot {
                $snapshot { $( $field: self.$field.value(), )+ ..rest }
            }
        }

        $(#[$rows_doc])*
        pub(crate) const $rows: &[MetricRow<$snapshot>] = &[
            $( MetricRow {
                name: $name,
                help: $help,
                kind: Kind::$kind,
                value: |snapshot| snapshot.$field,
            }, )+
        ];
    };
}

counters! {
    /// Everything one worker counts. Aligned so that no two workers share a cache line (and the line
    /// that the prefetcher fetches with it).
    #[derive(Debug, Default)]
    #[repr(align(128))]
    counters Counters {
        /// 1 while its thread runs.
        pub(crate) running: Counter,
        pub(crate) netns: DatapathCounters,
        pub(crate) host: DatapathCounters,
    };
    /// The counters of one worker at one instant, for `sluice status`.
    snapshot WorkerSnapshot {
        /// Index of the worker.
        pub worker: usize,
        /// Whether its thread runs.
        pub is_running: bool,
        /// Connections that came through the ingress network namespace.
        pub netns: DatapathSnapshot,
        /// Connections that came through the host's stack.
        pub host: DatapathSnapshot,
    }
    /// What a worker counts of everything, as metrics.
    rows WORKER_ROWS;
    generation: Gauge, "sluice_worker_generation",
        "Generation of the configuration that a worker serves";
    upstream_connects: Counter, "sluice_upstream_connects_total",
        "Connections to endpoints that were opened";
    upstream_connect_failures: Counter, "sluice_upstream_connect_failures_total",
        "Connections to endpoints that were refused, broke or timed out before they were open";
    upstream_connects_abandoned: Counter, "sluice_upstream_connects_abandoned_total",
        "Connection attempts abandoned because the endpoint was removed meanwhile";
    upstream_reuses: Counter, "sluice_upstream_reuses_total",
        "Requests sent over a connection that had carried one before";
    upstream_idle: Gauge, "sluice_upstream_idle_connections",
        "Idle connections to endpoints";
    upstream_shared: Counter, "sluice_upstream_connections_shared_total",
        "Idle connections to endpoints taken over from another worker";
    upstream_given: Counter, "sluice_upstream_connections_given_total",
        "Idle connections to endpoints given to another worker";
    upstream_replays: Counter, "sluice_upstream_replays_total",
        "Requests sent again because the endpoint had closed the reused connection";
    upstream_retries: Counter, "sluice_upstream_retries_total",
        "Requests sent to another endpoint than the first";
    upstream_ejections: Counter, "sluice_upstream_ejections_total",
        "Times that an endpoint was ejected because it refused connections or answered with errors";
    upstream_queued: Counter, "sluice_upstream_queued_total",
        "Requests that waited because every endpoint of their backend was at its limit";
    upstream_rejections: Counter, "sluice_upstream_rejections_total",
        "Requests rejected because they waited too long, or too many were waiting";
    requests_open: Gauge, "sluice_requests_open",
        "Requests in progress, including open tunnels";
    tunnels: Counter, "sluice_tunnels_total",
        "Connections and streams that left HTTP (WebSocket and other upgrades)";
    tunnels_open: Gauge, "sluice_tunnels_open",
        "Open tunnels";
    relay_failures: Counter, "sluice_relay_failures_total",
        "TCP and TLS passthrough connections that reached no endpoint";
    relayed_bytes: Counter, "sluice_relayed_bytes_total",
        "Bytes of ended TCP and TLS passthrough connections, in both directions";
    spliced_bytes: Counter, "sluice_spliced_bytes_total",
        "Bytes of bodies and tunnels that the kernel moved between two sockets without a copy";
    stalled: Gauge, "sluice_stalled_requests",
        "Requests that wait for clients that neither read nor send";
    stalled_closed: Counter, "sluice_stalled_requests_closed_total",
        "Requests closed because clients that neither read nor send held too much memory";
    udp_sessions: Counter, "sluice_udp_sessions_total",
        "Sessions of UDP services";
    udp_sessions_open: Gauge, "sluice_udp_sessions_open",
        "Open sessions of UDP services";
    udp_datagrams: Counter, "sluice_udp_datagrams_total",
        "Datagrams of UDP services that were carried, in both directions";
    udp_datagrams_dropped: Counter, "sluice_udp_datagrams_dropped_total",
        "Datagrams of UDP services that were dropped: no endpoint, too many sessions or a full socket";
    client_certificate_refusals: Counter, "sluice_client_certificate_refusals_total",
        "Requests refused because their client presented no valid certificate";
    oidc_logins: Counter, "sluice_oidc_logins_total",
        "Users that an OpenID provider has logged in";
    oidc_login_failures: Counter, "sluice_oidc_login_failures_total",
        "Logins that failed: the provider cannot be reached or refuses, or the callback or ID token is invalid";
    misdirected: Counter, "sluice_misdirected_requests_total",
        "Requests for a host that asks for other client certificates than their connection's did";
    panics: Counter, "sluice_panics_total",
        "Connections and streams ended by a panic";
    log_lines: Counter, "sluice_access_log_lines_total",
        "Access log lines handed over to be written";
    log_lines_dropped: Counter, "sluice_access_log_lines_dropped_total",
        "Access log lines dropped because writing is too slow";
}

counters! {
    /// Counters for each datapath that connections arrive by.
    #[derive(Debug, Default)]
    counters DatapathCounters {
        /// By the hundreds digit of the status, 1xx first.
        responses: [Counter; 5],
    };
    /// The counts of one datapath.
    snapshot DatapathSnapshot {
        /// Responses with a status of 2xx.
        pub responses_2xx: u64,
        /// Responses with a status of 3xx.
        pub responses_3xx: u64,
        /// Responses with a status of 4xx.
        pub responses_4xx: u64,
        /// Responses with a status of 5xx.
        pub responses_5xx: u64,
    }
    /// What a worker counts of connections and requests by datapath, as metrics.
    rows DATAPATH_ROWS;
    connections_accepted: Counter, "sluice_connections_accepted_total",
        "Accepted client connections";
    connections_open: Gauge, "sluice_connections_open",
        "Open client connections";
    connections_idle_unbuffered: Gauge, "sluice_connections_idle_unbuffered",
        "Idle client connections that hold no buffers";
    accept_errors: Counter, "sluice_accept_errors_total",
        "Failed accept(2) calls, mostly for want of file descriptors";
    tls_handshake_failures: Counter, "sluice_tls_handshake_failures_total",
        "TLS handshakes that failed or timed out";
    proxy_header_failures: Counter, "sluice_proxy_header_failures_total",
        "Connections without a valid PROXY protocol header where one is required";
    client_limit_refusals: Counter, "sluice_client_limit_refusals_total",
        "Connections reset because their client had reached its connection limit";
    connections_evicted: Counter, "sluice_connections_evicted_total",
        "Idle client connections closed to make room for others";
    source_refusals: Counter, "sluice_source_refusals_total",
        "Connections reset because their source network is not allowed";
    malformed: Counter, "sluice_malformed_requests_total",
        "Malformed requests, answered with 400 or a similar status";
    requests: Counter, "sluice_requests_total",
        "Requests read";
}

impl Counters {
    pub(crate) fn datapath(&self, datapath: Datapath) -> &DatapathCounters {
        match datapath {
            Datapath::Netns => &self.netns,
            Datapath::Host => &self.host,
        }
    }

    pub(crate) fn snapshot(&self, worker: usize) -> WorkerSnapshot {
        self.snapshot_onto(WorkerSnapshot {
            worker,
            is_running: self.running.value() == 1,
            netns: self.netns.snapshot(),
            host: self.host.snapshot(),
            ..WorkerSnapshot::default()
        })
    }
}

impl DatapathCounters {
    /// Counts a response by its class.
    pub(crate) fn respond(&self, status: http::StatusCode) {
        let class = usize::from(status.as_u16() / 100);
        // Statuses from 600 are outside RFC 9110 §15 and counted as server errors.
        let index = class.clamp(1, self.responses.len()) - 1;
        self.responses[index].increment();
    }

    fn snapshot(&self) -> DatapathSnapshot {
        let [_, success, redirection, client_error, server_error] = &self.responses;
        self.snapshot_onto(DatapathSnapshot {
            responses_2xx: success.value(),
            responses_3xx: redirection.value(),
            responses_4xx: client_error.value(),
            responses_5xx: server_error.value(),
            ..DatapathSnapshot::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_has_a_name_of_its_own_and_reads_its_counter() {
        let counters = Counters::default();
        counters.upstream_retries.add(3);
        counters.host.requests.add(2);
        let snapshot = counters.snapshot(0);
        let by_name = |name: &str| {
            let mut rows = WORKER_ROWS.iter().filter(|row| row.name == name);
            rows.next().map(|row| (row.value)(&snapshot))
        };
        assert_eq!(by_name("sluice_upstream_retries_total"), Some(3));
        assert_eq!(by_name("sluice_upstream_replays_total"), Some(0));
        assert_eq!(snapshot.host.requests, 2);
        let names = WORKER_ROWS.iter().map(|row| (row.name, row.kind));
        let names: Vec<_> = names
            .chain(DATAPATH_ROWS.iter().map(|row| (row.name, row.kind)))
            .collect();
        let different: HashSet<_> = names.iter().map(|(name, _)| name).collect();
        assert_eq!(different.len(), names.len());
        for (name, kind) in names {
            assert_eq!(name.ends_with("_total"), kind == Kind::Counter, "{name}");
        }
    }
}
