//! The lines between a joined dashboard and a node, over standard input and output of
//! `sluice dashboard feed`: one JSON value a line. Both ends skip fields that they do not know, because
//! nodes may run another version.

use ingress_core::tail::TailFilter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Sample, TailLine, Traffic};

/// A line to a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeRequest {
    /// How often the node sends a look. Repeated every few seconds: a node that gets no line ends its
    /// verb.
    Pace {
        /// Seconds between two looks.
        seconds: u64,
    },
    /// Asks for a resource of the dashboard, such as `routes`.
    Ask {
        /// Repeated in the answer.
        number: u64,
        /// `routes`, `endpoints`, `certificates` or `explain`.
        resource: String,
        /// The query of its URL.
        query: String,
    },
    /// Follows requests as they end.
    Tail {
        /// Repeated with the requests.
        number: u64,
        /// The requests to follow.
        filter: Box<TailFilter>,
    },
    /// Follows these requests no longer.
    Untail {
        /// The number that they were asked by.
        number: u64,
    },
}

/// A line of a node.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeLine {
    /// Changes since the previous look.
    Look(Box<NodeLook>),
    /// The node runs, and the daemon has not answered for some seconds.
    Busy {
        /// Seconds since the daemon answered.
        seconds: u64,
    },
    /// Nothing has changed: sent every second between looks.
    Alive,
    /// The answer to a question.
    Answer {
        /// The number of the question.
        number: u64,
        /// The resource.
        value: Value,
    },
    /// A question or a tail that failed.
    Refusal {
        /// The number of the question or the tail.
        number: u64,
        /// The reason.
        reason: String,
    },
    /// Requests that have ended.
    Requests {
        /// The number of the tail.
        number: u64,
        /// The requests.
        lines: Vec<TailLine>,
        /// Requests that came faster than they were read.
        dropped: u64,
    },
}

/// One look at a daemon.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeLook {
    /// The sums of the daemon.
    pub sample: Sample,
    /// When the daemon started: after a restart sums begin at zero.
    pub started_at: String,
    /// The fields of the status that have changed.
    pub status: Map<String, Value>,
    /// Requests by host.
    pub hosts: TrafficChange,
    /// Requests by backend.
    pub backends: TrafficChange,
    /// Requests by route.
    pub routes: TrafficChange,
}

/// The rows of traffic that have changed since the last look.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TrafficChange {
    /// New rows, and rows with other numbers.
    pub rows: Vec<Traffic>,
    /// Names of rows that are gone.
    pub gone: Vec<String>,
}

/// A node in the view of several.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// Its name.
    pub node: String,
    /// `ready`, `draining` or `starting` as its daemon says; `busy` if the daemon does not answer the
    /// node, `slow` if the node does not answer the view in time, `away` if it does not answer at all.
    pub state: String,
    /// The reason why it is busy, slow or away.
    pub reason: Option<String>,
    /// Version of its daemon.
    pub version: Option<String>,
    /// Seconds since its daemon started.
    pub uptime_seconds: Option<u64>,
    /// The generation that its daemon published last.
    pub generation: u64,
    /// Requests that its daemon has read since the view began, and before by the same daemon.
    pub requests: u64,
    /// Responses of it with a status of 5xx.
    pub server_errors: u64,
    /// Client connections that are open.
    pub connections_open: u64,
    /// Memory of its daemon in bytes.
    pub resident_bytes: u64,
    /// `netns` or `host`: how packets reach its workers.
    pub mode: Option<String>,
    /// Why it is `host`, where it is.
    pub mode_reason: Option<String>,
    /// The configuration that its daemon published last, in numbers.
    pub config: ConfigCounts,
}

/// A published configuration in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigCounts {
    /// Host patterns.
    pub hosts: usize,
    /// Rules of all hosts.
    pub rules: usize,
    /// Backends that rules name.
    pub backends: usize,
    /// Their endpoints.
    pub endpoints: usize,
    /// Certificates from Secrets.
    pub certificates: usize,
}
