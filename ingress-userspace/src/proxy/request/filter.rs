//! The filter phases: runs the filters of a route over a request and over its response.
//!
//! Invariant: a route without filters pays for one comparison.

use std::cell::{OnceCell, RefCell};
use std::net::IpAddr;
use std::sync::Arc;

use http::header::SET_COOKIE;
use http::uri;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, request};
use ingress_core::filter::{self, Check, Context, Decision, RequestHead};
use ingress_core::ir::Filter;
use ingress_wire::http1::RawTarget;

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::authenticate::{self, Checked, Granted};
use crate::proxy::request::client::Client;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::error::{BadRequest, ProxyError};
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::field::X_REQUEST_ID;
use crate::proxy::runtime::original_head::OriginalHead;
use crate::proxy::runtime::transport::Scheme;

/// The filters for the response of a request; empty until the request's route is known.
#[derive(Default)]
pub(crate) struct ResponseFilters {
    filters: OnceCell<Arc<[Filter]>>,
    /// The request, for filters that need it.
    request: OnceCell<Box<KeptRequest>>,
    cookies: RefCell<Vec<HeaderValue>>,
}

/// A copy of the parts of a request that its response filters read.
struct KeptRequest {
    method: Method,
    headers: HeaderMap,
    authority: Box<str>,
    path: Box<[u8]>,
    target: Box<[u8]>,
    client: IpAddr,
    is_https: bool,
}

impl ResponseFilters {
    fn set(&self, filters: &Arc<[Filter]>, context: &Context<'_>) {
        let _ = self.filters.set(Arc::clone(filters));
        if filter::need_request(filters) {
            let _ = self.request.set(Box::new(KeptRequest::of(context)));
        }
    }

    /// Applies them to a response, also to one of our own.
    pub(crate) fn apply(
        &self,
        status: StatusCode,
        fields: &mut HeaderMap,
        is_https: impl FnOnce() -> bool,
    ) {
        let Some(filters) = self.filters.get() else {
            return;
        };
        if let Some(kept) = self.request.get() {
            filter::on_response(filters, fields, &kept.context());
        } else {
            let none = KeptRequest::none(is_https());
            filter::on_response(filters, fields, &none.context());
        }
        // nginx's `add_header` leaves errors alone.
        let is_set = status.is_success() || status.is_redirection();
        for cookie in self.cookies.take().into_iter().filter(|_| is_set) {
            fields.append(SET_COOKIE, cookie);
        }
    }
}

impl KeptRequest {
    fn of(context: &Context<'_>) -> Self {
        Self {
            method: Method::from_bytes(context.method.as_bytes()).unwrap_or_default(),
            headers: context.headers.clone(),
            authority: context.authority.into(),
            path: context.path.into(),
            target: context.target.into(),
            client: context.client,
            is_https: context.is_https,
        }
    }

    /// For filters that read nothing but the scheme.
    fn none(is_https: bool) -> Self {
        Self {
            method: Method::GET,
            headers: HeaderMap::new(),
            authority: "".into(),
            path: [].into(),
            target: [].into(),
            client: IpAddr::from([0; 4]),
            is_https,
        }
    }

    fn context(&self) -> Context<'_> {
        Context {
            is_https: self.is_https,
            method: self.method.as_str(),
            headers: &self.headers,
            authority: &self.authority,
            path: &self.path,
            target: &self.target,
            client: self.client,
        }
    }
}

/// The input of the request filters.
#[derive(Clone, Copy)]
pub(crate) struct FilterInput<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) client: &'a Client,
    pub(crate) head: &'a request::Parts,
    pub(crate) incoming: &'a Incoming,
    pub(crate) authority: &'a str,
    /// After normalisation.
    pub(crate) path: &'a [u8],
}

/// The changes that filters make in a request head.
#[derive(Default)]
pub(crate) struct Filtered {
    path: Option<String>,
    /// Fields that the endpoint gets, whatever the client says.
    pub(crate) headers: HeaderMap,
    removed: Vec<HeaderName>,
    /// The host that the endpoint is told.
    pub(crate) host: Option<HeaderValue>,
    /// A check that has to pass before the next filter runs, and the index of that filter.
    check: Option<(Box<Check>, usize)>,
}

/// Runs filters over a request up to the first that takes more than the request to decide.
///
/// # Errors
///
/// [`ProxyError::Answered`] where a filter answers the request itself.
pub(crate) fn on_request(
    filters: &Arc<[Filter]>,
    input: FilterInput<'_>,
    response_filters: &ResponseFilters,
) -> Result<Filtered, ProxyError> {
    let target = input.incoming.original().target(&input.head.uri);
    let context = input.context(&target);
    response_filters.set(filters, &context);
    let mut filtered = Filtered::default();
    filtered.run(filters, 0, &context)?;
    Ok(filtered)
}

impl<'a> FilterInput<'a> {
    pub(crate) fn context(self, target: &'a [u8]) -> Context<'a> {
        Context {
            is_https: is_https(self.connection, self.client),
            method: self.head.method.as_str(),
            headers: &self.head.headers,
            authority: self.authority,
            path: self.path,
            target,
            client: self.client.ip().unwrap_or(self.connection.peer.ip()),
        }
    }
}

impl Filtered {
    /// Whether a check has to pass before the request goes on.
    pub(crate) fn is_checked(&self) -> bool {
        self.check.is_some()
    }

    /// Runs the checks and the filters after them.
    ///
    /// # Errors
    ///
    /// [`ProxyError::Answered`] where a filter answers the request itself or a check fails,
    /// [`ProxyError::AuthService`] where a service could not decide.
    pub(crate) async fn finish(
        &mut self,
        filters: &Arc<[Filter]>,
        input: FilterInput<'_>,
        response_filters: &ResponseFilters,
        record: &RequestRecord,
    ) -> Result<(), ProxyError> {
        let target = input.incoming.original().target(&input.head.uri);
        let context = input.context(&target);
        let request_id = self.request_id(input.head, record);
        while let Some((check, resume)) = self.check.take() {
            let checked = Checked {
                worker: &input.connection.worker,
                context: &context,
                request_id: &request_id,
            };
            let granted = authenticate::pass(&check, checked).await?;
            let Granted {
                fields,
                cookies,
                open,
                ..
            } = granted;
            for (name, value) in fields {
                match value {
                    Some(value) => drop(self.headers.insert(name, value)),
                    None => self.removed.push(name),
                }
            }
            response_filters.cookies.borrow_mut().extend(cookies);
            if let Some(open) = open {
                record.hold(Box::new(open));
            }
            self.run(filters, resume, &context)?;
        }
        Ok(())
    }

    /// The id of the request, which the endpoint gets as well.
    fn request_id(&mut self, head: &request::Parts, record: &RequestRecord) -> HeaderValue {
        if let Some(id) = head.headers.get(X_REQUEST_ID) {
            return id.clone();
        }
        let id = HeaderValue::from_bytes(&record.request_id());
        let id = id.unwrap_or(HeaderValue::from_static(""));
        self.headers.insert(X_REQUEST_ID, id.clone());
        id
    }

    fn run(
        &mut self,
        filters: &[Filter],
        from: usize,
        context: &Context<'_>,
    ) -> Result<(), ProxyError> {
        let mut head = RequestHead {
            headers: &mut self.headers,
            path: self.path.take(),
            host: self.host.take(),
        };
        let decision = filter::on_request(filters, from, &mut head, context);
        let RequestHead { path, host, .. } = head;
        self.path = path;
        self.host = host;
        match decision {
            Decision::Continue => Ok(()),
            Decision::Respond(answer) => Err(ProxyError::Answered(Box::new(answer))),
            Decision::Close => Err(ProxyError::Unanswered),
            Decision::Check { check, resume } => {
                self.check = Some((Box::new(check), resume));
                Ok(())
            }
        }
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
        for name in &self.removed {
            head.headers.remove(name);
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
    let forwarded = client
        .forwarded_info
        .as_ref()
        .and_then(|forwarded_info| forwarded_info.scheme);
    forwarded.unwrap_or(connection.forwarded_scheme) == Scheme::Https
}
