//! The filter phases: runs the filters of a route over a request and over its response.
//!
//! Invariant: a route without filters pays for one comparison.

use std::cell::OnceCell;
use std::sync::Arc;

use http::uri::{self, PathAndQuery};
use http::{HeaderMap, HeaderValue, Uri, request};
use ingress_core::filter::{self, Context, Decision, RequestHead};
use ingress_core::ir::Filter;
use ingress_wire::http1::RawTarget;

use crate::proxy::request::client::Client;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::{BadRequest, ProxyError};
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::transport::Scheme;

/// The filters that the response of a request has to go through, once its route is known.
#[derive(Default)]
pub(crate) struct ResponseFilters(OnceCell<Arc<[Filter]>>);

impl ResponseFilters {
    pub(crate) fn set(&self, filters: &Arc<[Filter]>) {
        let _ = self.0.set(Arc::clone(filters));
    }

    /// Applies them to a response, also to one of our own.
    pub(crate) fn apply(&self, fields: &mut HeaderMap, is_https: impl FnOnce() -> bool) {
        if let Some(filters) = self.0.get() {
            filter::on_response(filters, fields, is_https());
        }
    }
}

/// What is known of a request before its filters run.
#[derive(Clone, Copy)]
pub(crate) struct FilterInput<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) client: &'a Client,
    pub(crate) authority: &'a str,
    /// After normalisation.
    pub(crate) path: &'a [u8],
}

/// What filters have made of a request head, to be applied to it.
#[derive(Default)]
pub(crate) struct Filtered {
    path: Option<String>,
    headers: HeaderMap,
    /// The host that the endpoint is told.
    pub(crate) host: Option<HeaderValue>,
}

/// Runs filters over a request.
///
/// # Errors
///
/// [`ProxyError::Answered`] where a filter answers the request itself.
pub(crate) fn on_request(
    filters: &[Filter],
    target: &Uri,
    input: FilterInput<'_>,
) -> Result<Filtered, ProxyError> {
    let FilterInput {
        connection,
        client,
        authority,
        path,
    } = input;
    let target = target.path_and_query().map_or("/", PathAndQuery::as_str);
    let context = Context {
        is_https: is_https(connection, client),
        authority,
        path,
        target: target.as_bytes(),
        client: client.ip().unwrap_or(connection.peer.ip()),
    };
    let mut filtered = Filtered::default();
    let mut head = RequestHead {
        headers: &mut filtered.headers,
        path: None,
        host: None,
    };
    match filter::on_request(filters, &mut head, &context) {
        Decision::Continue => {
            let RequestHead { path, host, .. } = head;
            filtered.path = path;
            filtered.host = host;
            Ok(filtered)
        }
        Decision::Respond(answer) => Err(ProxyError::Answered(Box::new(answer))),
    }
}

impl Filtered {
    /// Makes the changes in the head of the request. A new path replaces the client's target, also
    /// where that is beside the head; the query stays as the client sent it.
    ///
    /// # Errors
    ///
    /// [`BadRequest::Path`] never comes of a path that a filter made; a query that cannot stand in
    /// a target is refused as [`BadRequest::Target`].
    pub(crate) fn apply(
        &mut self,
        head: &mut request::Parts,
        original: &mut OriginalHead,
    ) -> Result<(), BadRequest> {
        for (name, value) in &self.headers {
            head.headers.insert(name, value.clone());
        }
        let Some(path) = self.path.take() else {
            return Ok(());
        };
        let mut target = path.into_bytes();
        if let Some(query) = original.query(&head.uri) {
            target.push(b'?');
            target.extend_from_slice(query);
        }
        let (target, raw_target) =
            RawTarget::parse(&target.into()).map_err(|_| BadRequest::Target)?;
        original.raw_target = raw_target.map(Box::new);
        let mut parts = uri::Parts::from(std::mem::take(&mut head.uri));
        parts.path_and_query = Some(target);
        head.uri = Uri::from_parts(parts).map_err(|_| BadRequest::Target)?;
        Ok(())
    }
}

/// Whether the client speaks HTTPS, as far as is known: to us, or to a proxy that is trusted.
pub(crate) fn is_https(connection: &Connection, client: &Client) -> bool {
    let forwarded = client.claims.as_ref().and_then(|claims| claims.scheme);
    forwarded.unwrap_or(connection.forwarded_scheme) == Scheme::Https
}
