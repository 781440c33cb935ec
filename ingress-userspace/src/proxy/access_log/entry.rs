//! What one request has to say in the access log, kept from its head to its end.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Request, Uri, Version};

use super::sink::LogBuffer;
use crate::proxy::client::Client;
use crate::proxy::connection::Connection;
use crate::proxy::listen::Scheme;
use crate::proxy::metrics::labels::Labels;
use crate::proxy::request::X_REQUEST_ID;

/// What of a request's head is said later. Cheap to make: values are shared with the head.
pub(in super::super) struct Entry {
    pub(super) client: HeaderValue,
    pub(super) port: HeaderValue,
    pub(super) scheme: Scheme,
    pub(super) target: Uri,
    pub(super) version: Version,
    /// In the order of the template.
    pub(super) fields: Box<[Option<HeaderValue>]>,
    pub(in super::super) request_id: HeaderValue,
}

/// What came of a request.
pub(in super::super) struct Outcome<'a> {
    pub(in super::super) method: &'a str,
    pub(in super::super) labels: &'a Labels,
    pub(in super::super) status: u16,
    pub(in super::super) took: Duration,
    pub(in super::super) received: u64,
    pub(in super::super) sent: u64,
    pub(in super::super) body_sent: u64,
    /// Endpoints in the order in which they were tried.
    pub(in super::super) attempts: &'a [AttemptOutcome],
}

/// What came of one try.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct AttemptOutcome {
    pub(in super::super) endpoint: SocketAddr,
    pub(in super::super) status: u16,
    pub(in super::super) connected: Duration,
    pub(in super::super) answered: Option<Duration>,
    pub(in super::super) took: Duration,
    pub(in super::super) length: u64,
}

impl Entry {
    /// Keeps what the log's template asks for.
    pub(in super::super) fn new<B>(
        log: &LogBuffer,
        connection: &Connection,
        client: &Client,
        request: &Request<B>,
    ) -> Box<Self> {
        let headers = request.headers();
        let id = headers.get(X_REQUEST_ID).cloned();
        let fields = log.template().fields.iter();
        Box::new(Self {
            client: client.address.clone(),
            port: connection.port.clone(),
            scheme: connection.scheme,
            target: request.uri().clone(),
            version: request.version(),
            fields: fields.map(|name| headers.get(name).cloned()).collect(),
            request_id: id.unwrap_or_else(|| connection.worker.request_id()),
        })
    }

    pub(super) fn field(&self, place: usize) -> &[u8] {
        let value = self.fields.get(place).and_then(Option::as_ref);
        value.map(HeaderValue::as_bytes).unwrap_or_default()
    }
}
