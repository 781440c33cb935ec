//! Copies of requests for a mirror. Their answers are dropped, and a mirror that is slow or gone
//! slows no client.
//!
//! Source: ingress-nginx, annotation `mirror-target`. A body is collected while it goes to the
//! endpoint; one of more than 64 KiB is not copied, nor is the request.

use std::rc::Rc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, Method, Request, Uri};
use http_body::Body as _;
use http_body_util::Full;
use ingress_core::filter::{Context, render};
use ingress_core::ir::Mirror;

use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::filter::FilterInput;
use crate::proxy::request::service_request::forwarded_fields;
use crate::proxy::upstream::request_body::Tap;

/// Sends a copy of a request, or returns what has to get a copy of its body first.
pub(crate) fn send(mirror: &Mirror, input: FilterInput<'_>) -> Option<Tap> {
    let target = input.incoming.original().target(&input.head.uri);
    let copy = copy(mirror, &input.context(&target))?;
    let worker = &input.connection.worker;
    if input.incoming.is_end_stream() || !mirror.with_body {
        hand_over(worker, copy, Bytes::new());
        return None;
    }
    let worker = Rc::clone(worker);
    let take = Box::new(move |body| hand_over(&worker, copy, body));
    Some(Tap::new(BODY_BYTES_MAX, take))
}

/// The copy of a request; `None` where the target is not a URL for this request.
fn copy(mirror: &Mirror, context: &Context<'_>) -> Option<Request<()>> {
    let uri = Uri::try_from(render(&mirror.target, context)).ok()?;
    let host = match &mirror.host {
        Some(host) => HeaderValue::from_str(host).ok()?,
        None => HeaderValue::from_str(uri.authority()?.as_str()).ok()?,
    };
    let mut request = Request::new(());
    *request.method_mut() = Method::from_bytes(context.method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    let headers = request.headers_mut();
    *headers = forwarded_fields(context.headers);
    headers.insert(HOST, host);
    if !mirror.with_body {
        headers.remove(CONTENT_TYPE);
    }
    Some(request)
}

fn hand_over(worker: &WorkerContext, copy: Request<()>, body: Bytes) {
    let request = copy.map(|()| Full::new(body));
    let sent = worker.known_clients.services().send_and_forget(request);
    if let Err(error) = sent {
        tracing::debug!(
            error = &error as &dyn std::error::Error,
            "request is not mirrored"
        );
    }
}

const BODY_BYTES_MAX: usize = 64 << 10;
