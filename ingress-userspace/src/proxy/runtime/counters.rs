//! What a worker counts, and the sums that others may read.
//!
//! Each worker owns one [`Counters`] and is its only writer, so that counting is a plain load and
//! store on a cache line nobody else writes; readers see values that are at most one event old.

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

/// Everything one worker counts. Aligned so that no two workers share a cache line (and the
/// line that the prefetcher fetches with it).
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    /// 1 while its thread runs.
    pub(crate) running: Counter,
    pub(crate) generation: Counter,
    pub(crate) netns: DatapathCounters,
    pub(crate) host: DatapathCounters,
    pub(crate) upstream_connects: Counter,
    pub(crate) upstream_connect_failures: Counter,
    pub(crate) upstream_connects_abandoned: Counter,
    pub(crate) upstream_reuses: Counter,
    /// Connections to endpoints that are idle.
    pub(crate) upstream_idle: Counter,
    pub(crate) upstream_borrows: Counter,
    pub(crate) upstream_lends: Counter,
    pub(crate) upstream_replays: Counter,
    pub(crate) upstream_retries: Counter,
    pub(crate) upstream_ejections: Counter,
    pub(crate) upstream_queued: Counter,
    pub(crate) upstream_rejections: Counter,
    /// Requests that are being answered, and tunnels.
    pub(crate) requests_open: Counter,
    pub(crate) tunnels: Counter,
    pub(crate) tunnels_open: Counter,
    pub(crate) relay_failures: Counter,
    pub(crate) relayed_bytes: Counter,
    pub(crate) spliced_bytes: Counter,
    pub(crate) udp_sessions: Counter,
    pub(crate) udp_sessions_open: Counter,
    pub(crate) udp_datagrams: Counter,
    pub(crate) udp_datagrams_dropped: Counter,
    pub(crate) client_certificate_refusals: Counter,
    pub(crate) misdirected: Counter,
    /// Streams and connections that wait for a client that does not read.
    pub(crate) stalled: Counter,
    pub(crate) stalled_closed: Counter,
    pub(crate) panics: Counter,
    pub(crate) log_lines: Counter,
    pub(crate) log_lines_dropped: Counter,
}

impl Counters {
    pub(crate) fn datapath(&self, datapath: Datapath) -> &DatapathCounters {
        match datapath {
            Datapath::Netns => &self.netns,
            Datapath::Host => &self.host,
        }
    }

    pub(crate) fn snapshot(&self, worker: usize) -> WorkerSnapshot {
        WorkerSnapshot {
            worker,
            is_running: self.running.value() == 1,
            generation: self.generation.value(),
            netns: self.netns.snapshot(),
            host: self.host.snapshot(),
            upstream_connects: self.upstream_connects.value(),
            upstream_connect_failures: self.upstream_connect_failures.value(),
            upstream_connects_abandoned: self.upstream_connects_abandoned.value(),
            upstream_reuses: self.upstream_reuses.value(),
            upstream_idle: self.upstream_idle.value(),
            upstream_borrows: self.upstream_borrows.value(),
            upstream_lends: self.upstream_lends.value(),
            upstream_replays: self.upstream_replays.value(),
            upstream_retries: self.upstream_retries.value(),
            upstream_ejections: self.upstream_ejections.value(),
            upstream_queued: self.upstream_queued.value(),
            upstream_rejections: self.upstream_rejections.value(),
            requests_open: self.requests_open.value(),
            tunnels: self.tunnels.value(),
            tunnels_open: self.tunnels_open.value(),
            relay_failures: self.relay_failures.value(),
            relayed_bytes: self.relayed_bytes.value(),
            spliced_bytes: self.spliced_bytes.value(),
            udp_sessions: self.udp_sessions.value(),
            udp_sessions_open: self.udp_sessions_open.value(),
            udp_datagrams: self.udp_datagrams.value(),
            udp_datagrams_dropped: self.udp_datagrams_dropped.value(),
            client_certificate_refusals: self.client_certificate_refusals.value(),
            misdirected: self.misdirected.value(),
            stalled: self.stalled.value(),
            stalled_closed: self.stalled_closed.value(),
            panics: self.panics.value(),
            log_lines: self.log_lines.value(),
            log_lines_dropped: self.log_lines_dropped.value(),
        }
    }
}

/// What is counted by the way that a connection came in.
#[derive(Debug, Default)]
pub(crate) struct DatapathCounters {
    pub(crate) accepted: Counter,
    pub(crate) open: Counter,
    pub(crate) asleep: Counter,
    pub(crate) accept_errors: Counter,
    pub(crate) tls_handshake_failures: Counter,
    pub(crate) proxy_header_failures: Counter,
    pub(crate) client_limit_refusals: Counter,
    pub(crate) source_refusals: Counter,
    pub(crate) malformed: Counter,
    pub(crate) requests: Counter,
    /// By the hundreds digit of the status, 1xx first.
    responses: [Counter; 5],
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
        DatapathSnapshot {
            connections_accepted: self.accepted.value(),
            connections_open: self.open.value(),
            connections_asleep: self.asleep.value(),
            accept_errors: self.accept_errors.value(),
            tls_handshake_failures: self.tls_handshake_failures.value(),
            proxy_header_failures: self.proxy_header_failures.value(),
            client_limit_refusals: self.client_limit_refusals.value(),
            source_refusals: self.source_refusals.value(),
            malformed: self.malformed.value(),
            requests: self.requests.value(),
            responses_2xx: success.value(),
            responses_3xx: redirection.value(),
            responses_4xx: client_error.value(),
            responses_5xx: server_error.value(),
        }
    }
}

/// The counters of one worker at one instant, for `sluice status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WorkerSnapshot {
    /// Index of the worker.
    pub worker: usize,
    /// Whether its thread runs.
    pub is_running: bool,
    /// Generation of the table it serves.
    pub generation: u64,
    /// Connections that came through the ingress network namespace.
    pub netns: DatapathSnapshot,
    /// Connections that came through the host's stack.
    pub host: DatapathSnapshot,
    /// Connections to endpoints that were opened.
    pub upstream_connects: u64,
    /// Connections to endpoints that were refused, broke or timed out before they were open.
    pub upstream_connect_failures: u64,
    /// Connections to endpoints that were given up because the endpoint was removed meanwhile.
    pub upstream_connects_abandoned: u64,
    /// Requests sent over a connection that had carried one before.
    pub upstream_reuses: u64,
    /// Connections to endpoints that are idle.
    pub upstream_idle: u64,
    /// Connections to endpoints that another worker had to spare.
    pub upstream_borrows: u64,
    /// Connections to endpoints that went to another worker.
    pub upstream_lends: u64,
    /// Requests sent again because the endpoint had closed the reused connection.
    pub upstream_replays: u64,
    /// Requests sent to another endpoint than the first.
    pub upstream_retries: u64,
    /// Times that an endpoint was left alone for a while because it refused connections or answered
    /// with errors.
    pub upstream_ejections: u64,
    /// Requests that found no room at any endpoint of their backend.
    pub upstream_queued: u64,
    /// Those of them that found none in time.
    pub upstream_rejections: u64,
    /// Requests that are being answered, and tunnels that are open.
    pub requests_open: u64,
    /// Connections and streams that left HTTP (WebSocket and other upgrades).
    pub tunnels: u64,
    /// Those that are open now.
    pub tunnels_open: u64,
    /// Connections to be carried as they are that reached no endpoint.
    pub relay_failures: u64,
    /// Bytes of those that were, in both directions.
    pub relayed_bytes: u64,
    /// Bytes of responses and tunnels that went through a pipe, and through no memory of ours.
    pub spliced_bytes: u64,
    /// Sessions of UDP services.
    pub udp_sessions: u64,
    /// Those that are open now.
    pub udp_sessions_open: u64,
    /// Datagrams of UDP services that were carried, in both directions.
    pub udp_datagrams: u64,
    /// Those that were not: no endpoint, too many sessions, or a full socket.
    pub udp_datagrams_dropped: u64,
    /// Requests refused because their client has not shown a certificate that is good.
    pub client_certificate_refusals: u64,
    /// Requests for a host that asks for other client certificates than their connection's did.
    pub misdirected: u64,
    /// Responses whose clients do not read them.
    pub stalled: u64,
    /// Those that were closed because clients that do not read held too much memory.
    pub stalled_closed: u64,
    /// Connections and streams ended by a panic.
    pub panics: u64,
    /// Lines of the access log that were handed over to be written.
    pub log_lines: u64,
    /// Lines that were not, because writing is too slow.
    pub log_lines_dropped: u64,
}

/// What came in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct DatapathSnapshot {
    /// Connections accepted.
    pub connections_accepted: u64,
    /// Connections open now.
    pub connections_open: u64,
    /// Those of them that are idle and keep no buffers.
    pub connections_asleep: u64,
    /// Calls of `accept(2)` that failed, mostly for want of file descriptors.
    pub accept_errors: u64,
    /// TLS handshakes that failed or timed out.
    pub tls_handshake_failures: u64,
    /// Connections without a good header of the PROXY protocol where one has to be.
    pub proxy_header_failures: u64,
    /// Connections that were reset because their client had as many as it may have.
    pub client_limit_refusals: u64,
    /// Connections that were reset because their network may not open any.
    pub source_refusals: u64,
    /// Requests that were none, and were answered with 400 or a like status.
    pub malformed: u64,
    /// Requests read.
    pub requests: u64,
    /// Responses by class of status.
    pub responses_2xx: u64,
    /// Responses by class of status.
    pub responses_3xx: u64,
    /// Responses by class of status.
    pub responses_4xx: u64,
    /// Responses by class of status.
    pub responses_5xx: u64,
}
