//! What the dashboard shows beside the lists: samples of the daemon's sums, problems with their age, and
//! the generations of the last hour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The sums of the daemon at one instant. Sums only grow while the daemon runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Sample {
    /// When, in RFC 3339.
    pub time: String,
    /// `starting`, `ready` or `draining`; in a view of several nodes the worst of their states
    /// ([`super::Node`]).
    pub state: String,
    /// The generation published last; in a view of several nodes a number that grows whenever one of them
    /// publishes another, leaves or comes back.
    pub generation: u64,
    /// Requests that were read.
    pub requests: u64,
    /// Responses with a status of 4xx.
    pub client_errors: u64,
    /// Responses with a status of 5xx.
    pub server_errors: u64,
    /// Requests in progress.
    pub requests_open: u64,
    /// Client connections that were accepted.
    pub connections_accepted: u64,
    /// Client connections that are open.
    pub connections_open: u64,
    /// TLS handshakes that failed or timed out.
    pub tls_handshake_failures: u64,
    /// CPU time of the daemon in seconds.
    pub cpu_seconds: f64,
    /// Memory of the daemon in bytes.
    pub resident_bytes: u64,
    /// Requests by their duration: up to 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5 and 10
    /// seconds, and above. Not cumulative; empty if requests are not counted by route.
    pub duration_buckets: Vec<u64>,
}

/// Something that a user can mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `error` where something is not served, else `warning`.
    pub severity: String,
    /// The object whose owner can mend it, such as `Ingress shop/web`.
    pub object: Option<String>,
    /// The field of the object.
    pub field: Option<String>,
    /// The object, the field and the reason.
    pub text: String,
    /// When the dashboard saw it first, in RFC 3339.
    pub since: String,
    /// The nodes that have the problem, in a view of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
}

/// A published configuration in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Generation {
    /// Its number.
    pub generation: u64,
    /// When the dashboard saw it first, in RFC 3339.
    pub time: String,
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
    /// The node that published it, in a view of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// When a route last had a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastUse {
    /// The route, as its host pattern and its path one after the other.
    pub route: String,
    /// When, in RFC 3339; 15 seconds late at most.
    pub time: String,
}

/// A reason for which the kernel's programs count packets, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PacketReason {
    /// Its label, as in counters.
    pub reason: String,
    /// `pass`, `redirect` or `drop`.
    pub verdict: String,
    /// Its meaning, in one sentence.
    pub meaning: String,
}
