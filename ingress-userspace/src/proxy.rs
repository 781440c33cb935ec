//! Terminates downstream connections and carries requests to endpoints.
//!
//! Eight floors, the lowest first; a floor imports only from floors below it, and `worker` stands
//! on top of them all:
//!
//! | floor | what is there |
//! |---|---|
//! | `runtime` | clock, limits, streams, counters, turns between tasks |
//! | `observe` | metrics, access log, traces |
//! | `tls` | server certificates, client certificates, session tickets |
//! | `table` | the published configuration, as requests look it up |
//! | `upstream` | choice of an endpoint, connection pools, HTTP/1.1 and HTTP/2 to endpoints |
//! | `l4` | TLS passthrough, TCP and UDP services, tunnels |
//! | `request` | one request: route, head, attempts, retries, response |
//! | `downstream` | accepting clients, HTTP/1.1 and HTTP/2 with them |
//!
//! Invariant: on the path of a request no lock is shared between workers, and a request is served
//! by the table that was published last when its head arrived.

mod downstream;
mod l4;
mod observe;
mod request;
mod runtime;
mod table;
mod tls;
mod upstream;
mod worker;

pub use downstream::context::{ConnectionGauge, NoGauge};
pub use downstream::listen::{ListenError, Listener, listen, listen_datagrams};
pub use observe::access_log::{AccessLog, Escape, LogWriter, Target, Template, TemplateError};
pub(crate) use observe::metrics::family;
pub use observe::metrics::{MetricsFormat, RequestMetrics};
pub use observe::tail::{Tail, TailReader, TailedRequest, TooManyWatchers};
pub use observe::trace::{CollectorError, TraceOptions, Tracer};
pub use request::authenticate::Checks;
pub use runtime::client_policy::{ClientPolicy, ForwardedFor, SharedDenyList};
pub use runtime::counters::{DatapathSnapshot, WorkerSnapshot};
pub use runtime::limits::{ClientLimits, DatagramLimits, MemoryLimits, Timeouts};
pub use runtime::transport::{Datapath, Scheme, Transport};
pub use table::health::{FailingEndpoint, ProbedBackend};
pub use table::{Table, TableHandle};
pub use tls::certificate::{CertificateError, CertificateProblem, DefaultCertificate};
pub use tls::{
    CipherError, CipherSuites, TicketKeyError, TicketKeys, Tickets, TlsOptions, TlsVersion,
};
pub use upstream::connect::{Dial, HostDial};
pub use upstream::connection_sharing::Peers;
pub use upstream::hash_key::Balancing;
pub use upstream::health::start_health_checks;
pub use worker::exposition::{
    DURATION_BOUNDS, Identity, Metrics, MetricsSnapshot, Traffic, TrafficBy,
};
pub use worker::{Worker, WorkerHandle, WorkerOptions, WorkerSpec};
