//! Bounds: how long the proxy waits for what, and how much of anything it keeps.
//!
//! Durations are those of ingress-nginx, so that a workload behaves after a move as it did before.
//! Sizes are constants: each names what it bounds and why it is as large as it is.

use std::num::NonZeroU32;
use std::time::Duration;

/// How long a worker waits for each step of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a TLS connection to the end of its handshake.
    pub tls_handshake: Duration,
    /// For the header of the PROXY protocol.
    pub proxy_header: Duration,
    /// From an accepted connection or the end of a response to the end of the next request head;
    /// closes idle kept-alive connections and those of slow senders alike.
    pub request_head: Duration,
    /// After which an idle HTTP/1 connection of a client keeps no buffers.
    pub buffers_idle: Duration,
    /// Without a byte taken by a client that has something to read.
    pub downstream_write: Duration,
    /// Between two reads of a request body before an endpoint is chosen.
    pub client_body: Duration,
    /// For a connection to an endpoint.
    pub upstream_connect: Duration,
    /// Without a byte from or to the endpoint while a client sends a body.
    pub upstream_send: Duration,
    /// Without a byte from or to the endpoint before its response head.
    pub response_head: Duration,
    /// Without a byte from or to the endpoint after its response head.
    pub body_idle: Duration,
    /// From a request's head to the end of its response, if there is a limit.
    pub request: Option<Duration>,
    /// Without a byte in either direction of a tunnel (WebSocket and other upgrades).
    pub tunnel_idle: Duration,
    /// Without a byte in either direction of a TCP connection that is carried as it is:
    /// `proxy-stream-timeout` of ingress-nginx.
    pub relay_idle: Duration,
    /// For which an idle connection to an endpoint is kept.
    pub upstream_idle: Duration,
}

/// The timeouts that may change while a worker runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IdleTimeouts {
    /// As in [`Timeouts`].
    pub(crate) proxy_header: Duration,
    /// As in [`Timeouts`].
    pub(crate) request_head: Duration,
    /// As in [`Timeouts`].
    pub(crate) upstream_idle: Duration,
}

impl IdleTimeouts {
    /// Those that a worker begins with.
    pub(crate) fn of(timeouts: Timeouts) -> Self {
        Self {
            proxy_header: timeouts.proxy_header,
            request_head: timeouts.request_head,
            upstream_idle: timeouts.upstream_idle,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_mins(1),
            proxy_header: Duration::from_secs(5),
            request_head: Duration::from_secs(75),
            buffers_idle: Duration::from_secs(1),
            downstream_write: Duration::from_mins(1),
            client_body: Duration::from_mins(1),
            upstream_connect: Duration::from_secs(5),
            upstream_send: Duration::from_mins(1),
            response_head: Duration::from_mins(1),
            body_idle: Duration::from_mins(1),
            request: None,
            tunnel_idle: Duration::from_mins(1),
            relay_idle: Duration::from_mins(10),
            upstream_idle: Duration::from_mins(1),
        }
    }
}

/// How much one client may have. By default, as many connections and bytes as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections on one worker.
    pub connections_max: Option<NonZeroU32>,
    /// Bytes of a request body where no Ingress says otherwise; 0: any number.
    pub body_bytes_max: u64,
    /// Bytes of a request body in a second, on average; 0: any number. Its first seconds are free.
    pub body_rate_min: u32,
    /// Bytes of a request head.
    pub head_bytes_max: u32,
    /// Streams of one HTTP/2 connection at a time.
    pub http2_streams_max: u32,
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections_max: None,
            body_bytes_max: 0,
            body_rate_min: 0,
            head_bytes_max: 32 * 1024,
            http2_streams_max: 128,
        }
    }
}

/// How much of the machine one worker may hold for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Bytes for clients that do not read what there is for them; beyond it those that have not
    /// read for longest are ended.
    pub stalled_bytes_max: usize,
    /// Connections of clients; beyond it those that have been idle longest are closed, and further
    /// ones wait in the listen backlog while none is idle.
    pub connections_max: u64,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            stalled_bytes_max: 256 * 1024 * 1024,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

/// How many UDP sessions one worker has, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatagramLimits {
    /// Sessions at a time: each costs a file descriptor. A client (an address, or of IPv6 a network
    /// of 64 bits) has a quarter of them at most. One more takes the place of the session that was
    /// used longest ago among those that never had an answer.
    pub sessions_max: u64,
    /// How long a session lasts without a datagram in either direction.
    pub session_idle: Duration,
    /// The same, at most, before its endpoint has answered.
    pub unanswered_idle: Duration,
}

impl Default for DatagramLimits {
    fn default() -> Self {
        Self {
            sessions_max: 10_000,
            session_idle: Duration::from_mins(1),
            // Of conntrack: `nf_conntrack_udp_timeout`.
            unanswered_idle: Duration::from_secs(30),
        }
    }
}

/// Bytes of the largest datagrams, and of as many small ones as the kernel hands over at once.
pub(crate) const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// Reads of one socket for datagrams before others get a turn.
pub(crate) const DATAGRAM_BATCH_MAX: usize = 32;

/// Bytes that one HTTP/1 connection buffers in each direction: what a large body moves by at
/// once, and the most that a client who does not read holds.
pub(crate) const CONNECTION_BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Bytes that a response reads at once and holds for a client that does not read, unless it has a
/// permit for larger pieces: a record of TLS, or a frame of HTTP/2.
pub(crate) const HELD_BYTES_MAX: usize = 16 * 1024;

/// Bytes that TLS holds back of a response: a record, in a block of memory of 16 KiB.
pub(crate) const TLS_HELD_BYTES_MAX: usize = 16_000;

/// Bytes that TLS holds back of a response with such a permit: what it gives the kernel at once.
pub(crate) const BULK_HELD_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a response reads at once at least, however little a client takes.
pub(crate) const READ_BYTES_MIN: usize = 4 * 1024;

/// Responses of one worker that may move by pieces of [`CONNECTION_BUFFER_BYTES_MAX`] at a time.
pub(crate) const BULK_PERMITS: usize = 64;

/// Bytes that a stalled HTTP/2 stream is taken to hold: what it has read, its connection to an
/// endpoint, and the request.
pub(crate) const STALLED_STREAM_BYTES: usize = 16 * 1024;

/// The same of a stalled HTTP/1.1 connection, with what TLS holds back.
pub(crate) const STALLED_CONNECTION_BYTES: usize = 64 * 1024;

/// Bytes that a tunnel moves by at once, and the most that it holds in each direction for an end
/// that does not read.
pub(crate) const TUNNEL_READ_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a pipe between two sockets has room for, and the most that it holds for a client who
/// does not read.
pub(crate) const PIPE_BYTES: usize = 256 * 1024;

/// Pipes of one worker: each costs two file descriptors. What would be one more is copied.
pub(crate) const PIPES_MAX: usize = 256;

/// Idle pipes that one worker keeps.
pub(crate) const PIPES_KEPT: usize = 16;

/// Bytes at once that are bulk, which is worth the way through a pipe: a record of TLS.
pub(crate) const BULK_BYTES_MIN: usize = 16 * 1024;

/// Bytes of bulk that one connection of HTTP/1 uploads, or that the kernel moves of a response or of
/// one direction of a tunnel, before others of the worker have their turn: a fifth of a millisecond.
pub(crate) const BULK_TURN_BYTES_MAX: usize = 1024 * 1024;

/// The same of what goes through our memory, most of it with TLS.
pub(crate) const COPIED_TURN_BYTES_MAX: usize = BULK_TURN_BYTES_MAX / 4;

/// Bytes of the message that begins TLS, with room for keys that quantum computers can't guess.
pub(crate) const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// Requests of one HTTP/2 connection, after which its client is told to make another: what it has
/// piled up is let go of, and new endpoints of a load balancer before us get their share.
pub(crate) const HTTP2_REQUESTS_MAX: u64 = 10_000;

/// Bytes that one HTTP/2 stream buffers in either direction.
pub(crate) const HTTP2_STREAM_BYTES_MAX: u32 = 64 * 1024;

/// Bytes that wait to be written on one HTTP/2 connection before its streams wait for room; at twice
/// as many nothing more is read, as it might have to be answered.
pub(crate) const HTTP2_OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// CONTINUATION frames of one field block: several times what the largest head needs.
pub(crate) const HTTP2_CONTINUATIONS_MAX: usize = 16;

/// Bytes that are read from one HTTP/2 connection before others of its worker have their turn: a
/// client can send thousands of frames in them, and as many more as it likes after them.
pub(crate) const TURN_BYTES_MAX: usize = 8 * 1024;

/// Bytes that all streams of one HTTP/2 connection buffer in the direction of the endpoints.
pub(crate) const HTTP2_CONNECTION_BYTES_MAX: u32 = 1024 * 1024;

/// Connections that clients hold open on one worker, whatever the machine has.
pub(crate) const CONNECTIONS_MAX: u64 = 100_000;

/// How long a client may take to close its side of a connection whose other side is closed.
pub(crate) const CLOSING_MAX: Duration = Duration::from_secs(5);

/// The same when the worker ends.
pub(crate) const CLOSING_AT_END_MAX: Duration = Duration::from_millis(500);

/// Bytes that a client may send meanwhile, which are forgotten.
pub(crate) const CLOSING_BYTES_MAX: usize = 1024 * 1024;

/// How long a client may go on to send a body whose request has been answered: nginx's
/// `lingering_time`.
pub(crate) const UNREAD_BODY_MAX: Duration = Duration::from_secs(30);

/// Bytes of such a body that are read and dropped.
pub(crate) const UNREAD_BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Connections accepted for one readiness of a listener before others get a turn.
pub(crate) const ACCEPT_BATCH_MAX: usize = 64;

/// Idle connections that one worker keeps to one endpoint.
pub(crate) const IDLE_PER_ENDPOINT_MAX: usize = 320;

/// Idle connections that one worker keeps to all endpoints.
pub(crate) const IDLE_MAX: usize = 4_096;

/// Asks of other workers for connections that wait for an answer; further ones get none.
pub(crate) const ASKS_MAX: usize = 64;

/// Requests that one HTTP/2 connection to an endpoint carries at a time.
pub(crate) const UPSTREAM_STREAMS_MAX: usize = 100;

/// Streams that clients may have broken off on one HTTP/2 connection to an endpoint before it gets no
/// more of them. With those that are open then, it stays well below what endpoints take for an attack:
/// 500 of Envoy, 512 of our own, 1,000 of Node.js.
pub(crate) const UPSTREAM_RESETS_MAX: usize = 128;

/// HTTP/2 connections that one worker keeps to one endpoint.
pub(crate) const MULTIPLEXED_PER_ENDPOINT_MAX: usize = 64;

/// Endpoints that one request is tried on: `proxy-next-upstream-tries` of ingress-nginx. Those
/// that refuse the connection do not count.
pub(crate) const TRIES_MAX: usize = 3;

/// Bytes of a request body that are kept so that it can be sent again, where an Ingress asks for
/// that.
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that a request body is taken to hold at least while the rest of it is waited for.
pub(crate) const GATHERED_BYTES_MIN: usize = 4 * 1024;

/// How long a connection to an endpoint may be in coming before another one is tried instead, if
/// there is one. Within a cluster it takes some milliseconds at most; the first packet is sent
/// again after a second (RFC 6298 §2), and to a node that has gone in vain.
pub(crate) const SLOW_CONNECT: Duration = Duration::from_millis(500);

/// After how long without a packet the kernel asks an endpoint whether it is still there (TCP
/// keepalive, RFC 9293 §3.8.4). What was sent and not acknowledged is the other half of it, see
/// `reach`.
pub(crate) const PROBED_AFTER: Duration = Duration::from_secs(4);

/// After how long without an answer to that it asks again.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(2);

/// After how many questions without an answer the connection ends: what a network takes to find
/// another way is survived.
pub(crate) const PROBES: u32 = 5;

/// Endpoints that may refuse the connection for one request.
pub(crate) const REFUSALS_MAX: usize = 16;

/// Reused connections that one request may find closed before it gets a fresh one.
pub(crate) const STALE_MAX: usize = 3;

/// Length of the queue of connections that the kernel has accepted and a worker has not.
pub(crate) const LISTEN_BACKLOG: i32 = 4096;
