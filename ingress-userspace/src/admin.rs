//! What can be asked of a running daemon: HTTP over a Unix socket in the run directory, for
//! `sluice status`, and over TCP for probes and metrics.
//!
//! `server` accepts from both, `routes` is the table of paths. Questions go to the app's loop as
//! messages, so that nothing is shared.

pub(crate) mod certificate_files;
mod datapath_series;
mod questions;
mod readiness;
mod routes;
mod scrape;
mod server;
mod status;
mod tail;
pub mod webhook;

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ingress_core::explain::{Explanation, Question};
use ingress_core::ir::Config;
use ipnet::IpNet;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

pub use self::certificate_files::{CertificateFiles, ServedCertificate};
pub use self::datapath_series::{AdoptedService, DatapathMetrics};
pub use self::questions::Questions;
pub use self::readiness::{MetricsSlot, Readiness};
pub use self::routes::Audience;
use self::routes::Routes;
pub use self::server::Listen;
pub use self::status::{DatapathStatus, FrontendStatus, Status};
use crate::datapath::Reach;
use crate::proxy::Tail;

/// A question for the app's loop, and where the answer goes.
#[derive(Debug)]
pub enum AdminRequest {
    /// How it is.
    Status(oneshot::Sender<Status>),
    /// The state of the datapath for `/metrics`.
    Datapath(oneshot::Sender<DatapathMetrics>),
    /// What is published.
    Published(oneshot::Sender<Published>),
    /// A new URL of the dashboard behind its scheme and host; `None` if there is no dashboard.
    DashboardUrl(oneshot::Sender<Option<String>>),
    /// Who serves a request, `None` before anything is served.
    Explain {
        /// The request.
        question: Box<Question>,
        /// Where the answer goes.
        answer: oneshot::Sender<Option<Explanation>>,
    },
    /// What is denied, after a change.
    Deny {
        /// The change.
        change: DenyChange,
        /// Where the answer goes.
        answer: oneshot::Sender<Vec<DenyEntry>>,
    },
}

/// A change of the denied networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DenyChange {
    /// None.
    None,
    /// Denies a network.
    Add {
        /// The network.
        network: IpNet,
        /// For how long; `None` until the daemon ends.
        seconds: Option<u64>,
    },
    /// Denies a network no longer.
    Remove {
        /// The network.
        network: IpNet,
    },
}

/// A network that is denied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DenyEntry {
    /// The network.
    pub network: IpNet,
    /// Who denies it: `admin` or `block-cidrs`.
    pub source: &'static str,
    /// Seconds until it is denied no longer.
    pub seconds_left: Option<u64>,
}

/// What is published, to be listed.
#[derive(Debug)]
pub struct Published {
    /// The configuration.
    pub config: Arc<Config>,
    /// Which endpoints are direct.
    pub reach: Arc<Reach>,
}

/// The file name of the socket in the run directory.
pub const SOCKET: &str = "admin.sock";

/// Binds the socket, readable for root only, in place of what an earlier daemon left.
pub fn bind(run_dir: &Path) -> io::Result<UnixListener> {
    let path = socket_path(run_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Where the socket of a run directory is.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET)
}

/// The routes of both admin sockets.
#[derive(Clone)]
pub struct Admin(Routes);

impl Admin {
    /// Answers about a daemon: its readiness, its metrics, its requests, and what its loop says.
    pub fn new(
        readiness: Readiness,
        metrics: MetricsSlot,
        tail: Tail,
        questions: mpsc::Sender<AdminRequest>,
    ) -> Self {
        Self(Routes::new(readiness, metrics, tail, questions))
    }

    /// Answers on a socket until it is dropped.
    pub async fn serve(self, listener: impl Listen) {
        server::serve(listener, self.0).await;
    }
}

/// The path of the list of [`crate::api::Route`].
pub const ROUTES: &str = "/v1/routes";
/// The path of the list of [`crate::api::Endpoint`].
pub const ENDPOINTS: &str = "/v1/endpoints";
/// The path of the list of [`crate::api::Certificate`].
pub const CERTIFICATES: &str = "/v1/certificates";
/// The path of the requests that end: [`crate::api::TailEvent`], one a line.
pub const TAIL: &str = "/v1/tail";
/// The header with the filter, an [`ingress_core::tail::TailFilter`] as JSON.
pub const TAIL_FILTER: &str = "tail-filter";
/// The path of the request that clients should go elsewhere while everything goes on.
pub const DRAIN: &str = "/v1/drain";
/// The path of the request that takes that back.
pub const RESUME: &str = "/v1/resume";
/// The path of the request for another log filter.
pub const LOG_LEVEL: &str = "/v1/log-level";
/// The path of the list of [`crate::api::Traffic`] by host.
pub const TRAFFIC_HOSTS: &str = "/v1/traffic/hosts";
/// The path of the list of [`crate::api::Traffic`] by backend.
pub const TRAFFIC_BACKENDS: &str = "/v1/traffic/backends";
/// The path of the list of [`crate::api::Traffic`] by route.
pub const TRAFFIC_ROUTES: &str = "/v1/traffic/routes";
/// The path of the request for a URL that opens the dashboard once.
pub const DASHBOARD_URL: &str = "/v1/dashboard/url";
/// The path of the last lines of the log.
pub const LOG: &str = "/v1/log";
/// The header that names the filter.
pub const LOG_FILTER: &str = "log-filter";
/// Header of a question to `/explain`: the host.
pub const EXPLAIN_HOST: &str = "explain-host";
/// Header of a change by `/deny`: the network.
pub const DENY_NETWORK: &str = "deny-network";
/// Header of a change by `/deny`: for how many seconds.
pub const DENY_SECONDS: &str = "deny-seconds";
/// Header of a question to `/explain`: the method.
pub const EXPLAIN_METHOD: &str = "explain-method";
/// Header of a question to `/explain`: a field, as `name:value`; may be there more than once.
pub const EXPLAIN_FIELD: &str = "explain-field";
/// Header of a question to `/explain`: the server name of the handshake.
pub const EXPLAIN_SNI: &str = "explain-sni";
/// Header of a question to `/explain`: `http` or `https`.
pub const EXPLAIN_SCHEME: &str = "explain-scheme";
/// Header of a question to `/explain`: the client's address.
pub const EXPLAIN_FROM: &str = "explain-from";
/// Header of a question to `/explain`: the path, and maybe a query.
pub const EXPLAIN_PATH: &str = "explain-path";
