//! Terminates downstream connections and carries requests to endpoints.
//!
//! The line of a request, file by file: `listen` accepts, `serve` settles TLS and protocol,
//! `request` rewrites the head, `forward` finds route and endpoint, `pool` and `upstream` carry
//! it, `body` streams both ways, `response` (or `error`) answers. `metrics`, `access_log` and `trace` are told of it by the way.
//! `table` is what a configuration looks like from here; `upgrade` and `tunnel` are for requests that leave HTTP; `worker` is the
//! thread that all of this runs on.
//!
//! Invariant: on the path of a request no lock is shared between workers, and a request is served
//! by the table that was published last when its head arrived.

mod access_log;
mod affinity;
mod announce;
mod backend;
mod balancing;
mod body;
mod carrier;
mod certificate;
mod client;
mod client_auth;
mod client_limit;
mod conduit;
mod connection;
mod counters;
mod datagram;
mod date;
mod deadline;
mod departure;
mod dial;
mod drain;
mod endpoint;
mod error;
mod exchange;
mod executor;
mod forward;
mod framing;
mod hpack;
mod http1;
mod http2;
mod inbound;
mod incoming;
mod io;
mod kept;
mod lend;
mod limits;
mod lines;
mod linger;
mod listen;
mod metrics;
mod multiplex;
mod patience;
mod peek;
mod pipe;
mod pool;
mod ports;
mod proxy_protocol;
mod queue;
mod random;
mod reach;
mod relay;
mod request;
mod response;
mod retry;
mod serve;
mod stream;
mod table;
mod timer;
mod tls;
mod trace;
mod tunnel;
mod turn;
mod upgrade;
mod upstream;
mod waits;
mod websocket;
mod worker;

pub use access_log::{AccessLog, Escape, LogWriter, Target, Template, TemplateError};
pub use balancing::Balancing;
pub use certificate::{CertificateError, CertificateProblem, DefaultCertificate};
pub use client::{ClientPolicy, ForwardedFor};
pub use counters::{DatapathSnapshot, WorkerSnapshot};
pub use dial::{Dial, HostDial};
pub use lend::Peers;
pub use limits::{ClientLimits, DatagramLimits, Timeouts};
pub use listen::{Datapath, ListenError, Listener, Scheme, Transport, listen, listen_datagrams};
pub use metrics::RequestMetrics;
pub use metrics::exposition::{Identity, Metrics};
pub use table::{Table, TableHandle};
pub use tls::{
    CipherError, CipherSuites, TicketKeyError, TicketKeys, Tickets, TlsOptions, TlsVersion,
};
pub use trace::{CollectorError, TraceOptions, Tracer};
pub use worker::{ConnectionGauge, NoGauge, Worker, WorkerHandle, WorkerOptions, WorkerSpec};
