//! Sums of requests by host or backend.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::proxy;

/// Sums of the requests of one host or backend. Numbers only grow while the daemon runs and the route
/// exists.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Traffic {
    /// A host pattern, or a backend as `namespace/service:port`; empty for requests that match no rule,
    /// or that ask no backend.
    pub name: String,
    /// Requests that have ended.
    pub requests: u64,
    /// Those with a status of 4xx.
    pub client_errors: u64,
    /// Those with a status of 5xx.
    pub server_errors: u64,
    /// Bytes of requests, head and body.
    pub received: u64,
    /// Bytes of responses, head and body.
    pub sent: u64,
    /// Requests by their duration: up to 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5 and 10
    /// seconds, and above. Not cumulative.
    pub duration_buckets: Vec<u64>,
}

impl From<proxy::Traffic> for Traffic {
    fn from(traffic: proxy::Traffic) -> Self {
        let proxy::Traffic {
            name,
            requests,
            client_errors,
            server_errors,
            received,
            sent,
            buckets,
        } = traffic;
        Self {
            name,
            requests,
            client_errors,
            server_errors,
            received,
            sent,
            duration_buckets: buckets,
        }
    }
}
