//! Every way in which a request can be sent again.
//!
//! A request without a body is copied before a connection that consumes it is given it, or is read
//! back from what a connection has written. A body is kept only where an Ingress asks for retries
//! that need it. A request that a connection gives back unsent needs none of this.

use std::rc::Rc;

use http::Request;
use http_body::Body as _;
use hyper::ext::Protocol;
use ingress_core::ir::{Retries, RetryAfter, RetryCause};

use crate::proxy::runtime::upload::Upload;
use crate::proxy::upstream::http1::Upstream;
use crate::proxy::upstream::replay_buffer::ReplayBuffer;
use crate::proxy::upstream::request_body::RequestBody;

/// The state that is needed to send a request again.
pub(crate) struct Replay {
    /// How far its body has come, if it has one.
    upload: Option<Rc<Upload>>,
    is_idempotent: bool,
    /// Set if it may be sent again though an endpoint may have executed it.
    retained: Option<Box<Retained>>,
}

/// A request that is kept as a whole.
struct Retained {
    /// The outcomes that the Ingress names.
    after: RetryAfter,
    /// Without its body.
    request: Request<RequestBody>,
    body: Option<Rc<ReplayBuffer>>,
}

impl Replay {
    /// Keeps what it takes to send `request` again, and no more.
    pub(crate) fn new(
        retries: Retries,
        request: &mut Request<RequestBody>,
        upload: Option<Rc<Upload>>,
        may_switch: bool,
    ) -> Self {
        let after = retries.after.filter(|_| !may_switch);
        Self {
            upload,
            is_idempotent: request.method().is_idempotent(),
            retained: after.and_then(|after| Retained::new(after, request)),
        }
    }

    /// How far the body has come, if there is one.
    pub(crate) fn upload(&self) -> Option<&Upload> {
        self.upload.as_deref()
    }

    /// Whether the request may be sent twice whatever the Ingress says: idempotent by its method and
    /// without a body (RFC 9110 §9.2.2).
    pub(crate) fn is_repeatable(&self) -> bool {
        self.upload.is_none() && self.is_idempotent
    }

    /// Whether outcomes that the Ingress names send it again.
    pub(crate) fn is_retained(&self) -> bool {
        self.retained.is_some()
    }

    /// A copy for after a connection that consumes the request. `None` if it has a body.
    pub(crate) fn copy(&self, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
        self.upload.is_none().then(|| copy(request))
    }

    /// The request that a connection has sent, read back from what it has written. `None` if it may
    /// not be sent twice.
    pub(crate) fn sent_by(&self, upstream: &Upstream) -> Option<Request<RequestBody>> {
        self.is_repeatable().then(|| upstream.sent()).flatten()
    }

    /// The request, if the Ingress retries after this outcome and all of the request was kept.
    pub(crate) fn after(&self, outcome: Option<RetryCause>) -> Option<Request<RequestBody>> {
        let retained = self.retained.as_ref()?;
        let is_sent = self.upload.as_ref().is_none_or(|upload| upload.is_done());
        let is_named = outcome.is_some_and(|outcome| retained.after.has(outcome));
        (is_sent && is_named).then(|| retained.request()).flatten()
    }
}

impl Retained {
    /// `None` if the Ingress does not ask for it, or not for requests such as this one.
    fn new(after: RetryAfter, request: &mut Request<RequestBody>) -> Option<Box<Self>> {
        let is_asked = request.method().is_idempotent() || after.has(RetryCause::NonIdempotent);
        if !is_asked || after.has(RetryCause::Off) {
            return None;
        }
        let body = if request.body().is_end_stream() {
            None
        } else {
            Some(request.body_mut().keep()?)
        };
        let mut kept = copy(request);
        kept.body_mut().introduce(request.body().lines().cloned());
        Some(Box::new(Self {
            after,
            request: kept,
            body,
        }))
    }

    /// `None` if its body was not kept as a whole.
    fn request(&self) -> Option<Request<RequestBody>> {
        let mut request = copy(&self.request);
        if let Some(body) = &self.body {
            let original = request.body().original().clone();
            *request.body_mut() = RequestBody::replayed(body.copy()?, original);
        }
        let lines = self.request.body().lines().cloned();
        request.body_mut().introduce(lines);
        Some(request)
    }
}

/// A request without its body, once more.
fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty(request.body().original().clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    if let Some(protocol) = request.extensions().get::<Protocol>() {
        copy.extensions_mut().insert(protocol.clone());
    }
    copy
}
