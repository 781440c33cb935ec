//! Requests as they end.

use std::net::SocketAddr;
use std::time::Instant;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Object;
use crate::proxy::TailedRequest;

/// One line of `sluice tail -o json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum TailEvent {
    /// A request has ended.
    Request(Box<TailLine>),
    /// Requests that fit the filter and are not shown, because they came faster than they were read.
    Dropped {
        /// How many.
        requests: u64,
    },
}

/// A request that has ended. Query strings and header fields are left out, because they carry secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TailLine {
    /// When it ended, in RFC 3339.
    pub time: String,
    /// The client's address.
    pub client: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// The method.
    pub method: String,
    /// The host that the client asked for, without port.
    pub host: String,
    /// The path without query, cut after 1,024 bytes.
    pub path: String,
    /// The status that the client got; 499 if it left before.
    pub status: u16,
    /// From the head of the request to the end of the response, in seconds.
    pub seconds: f64,
    /// Bytes of the request, head and body.
    pub received: u64,
    /// Bytes of the response, head and body.
    pub sent: u64,
    /// The Ingress whose rule matched; `None` if no rule did.
    pub ingress: Option<Object>,
    /// `namespace/service` of the backend; `None` if no endpoint is asked.
    pub service: Option<String>,
    /// The endpoint that was tried last.
    pub endpoint: Option<SocketAddr>,
    /// Endpoints that were tried.
    pub attempts: usize,
    /// The node that served it, in a view of several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

impl TailLine {
    /// The line of a request. The clock is read by the caller, as an instant and as a time.
    pub fn of(request: &TailedRequest, (instant, time): (Instant, Timestamp)) -> Self {
        let age = instant.saturating_duration_since(request.ended);
        let (namespace, name) = &request.ingress;
        let object = || Object {
            kind: "Ingress".to_owned(),
            namespace: namespace.to_string(),
            name: name.to_string(),
        };
        let service = &request.service;
        Self {
            time: time
                .saturating_sub(age)
                .map_or_else(|_| String::new(), |time| time.to_string()),
            client: request.client.clone(),
            scheme: request.scheme.to_owned(),
            protocol: request.protocol.to_owned(),
            method: request.method.to_string(),
            host: request.host.clone(),
            path: request.path.clone(),
            status: request.status,
            seconds: request.took.as_secs_f64(),
            received: request.received,
            sent: request.sent,
            ingress: (!name.is_empty()).then(object),
            service: (!service.is_empty()).then(|| format!("{namespace}/{service}")),
            endpoint: request.endpoint,
            attempts: request.attempts,
            node: None,
        }
    }
}
