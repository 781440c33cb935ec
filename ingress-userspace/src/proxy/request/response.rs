//! The head of a response: what of an endpoint's answer a client gets to see, and our own answers.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION, SERVER,
};
use http::{Method, Request, Response, StatusCode, Version, response};

use crate::proxy::request::connection::InFlight;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::runtime::field::remove_connection_fields;

/// Rewrites a head that came from an endpoint to the one for a client.
///
/// `Server` of the endpoint is replaced: ingress-nginx hides it (`allow-backend-server-header:
/// false`), and the Ingress conformance tests want the field present.
pub(crate) fn rewrite(head: &mut response::Parts) {
    // The client's version decides about the response, not the endpoint's.
    head.version = Version::HTTP_11;
    if head.headers.keys().any(is_special) {
        remove_connection_fields(&mut head.headers);
        remove_response_fields(&mut head.headers);
    }
    head.headers.insert(SERVER, NAME);
}

/// The answer to a request that no endpoint answers.
pub(crate) fn failure(
    failure: &ProxyError,
    error_format: ErrorFormat,
    in_flight: InFlight,
) -> Response<ResponseBody> {
    if matches!(failure, ProxyError::Unanswered) {
        let mut response = Response::new(ResponseBody::withheld(in_flight));
        *response.status_mut() = failure.status();
        return response;
    }
    if error_format == ErrorFormat::Grpc {
        return grpc_failure(failure, in_flight);
    }
    let text = if let ProxyError::Challenge(answer) = failure {
        Bytes::copy_from_slice(answer.as_bytes())
    } else {
        Bytes::from_static(failure.text().as_bytes())
    };
    let mut response = Response::new(ResponseBody::text(text, in_flight));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN_TEXT);
    headers.insert(SERVER, NAME);
    if let Some(location) = failure.location() {
        headers.insert(LOCATION, location.clone());
    }
    for (name, value) in failure.fields() {
        headers.append(name, value.clone());
    }
    response
}

/// The answer to a request that is refused before it is one, and its text.
pub(crate) fn refusal(status: StatusCode) -> (response::Parts, &'static str) {
    let text = match status {
        StatusCode::METHOD_NOT_ALLOWED => "405 method not allowed\n",
        StatusCode::URI_TOO_LONG => "414 request target is too long\n",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "431 request head is too large\n",
        _ => "400 bad request\n",
    };
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = status;
    head.headers.insert(CONTENT_TYPE, PLAIN_TEXT);
    head.headers.insert(SERVER, NAME);
    (head, text)
}

/// Has the connection end with this response.
pub(crate) fn close<B>(response: &mut Response<B>) {
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
}

/// A response that is all trailers, as gRPC over HTTP/2 has them: its clients look at
/// `grpc-status` and take any other HTTP status than 200 for a proxy that knows no gRPC.
fn grpc_failure(failure: &ProxyError, in_flight: InFlight) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text("", in_flight));
    // As gRPC clients themselves read HTTP statuses (grpc `doc/http-grpc-status-mapping.md`).
    let status = match failure.status() {
        _ if matches!(failure, ProxyError::DeadlineExceeded) => "4",
        StatusCode::BAD_REQUEST => "13",
        StatusCode::FORBIDDEN | StatusCode::FOUND => "7",
        StatusCode::NOT_FOUND | StatusCode::NOT_IMPLEMENTED => "12",
        status if status.is_server_error() => "14",
        _ => "2",
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(status));
    let text = failure.text().trim_end();
    headers.insert("grpc-message", HeaderValue::from_static(text));
    headers.insert(SERVER, NAME);
    response
}

/// What a client understands as a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ErrorFormat {
    Http,
    Grpc,
}

impl ErrorFormat {
    /// gRPC is always POST, so that nothing else costs a look at a field.
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        let content_type = |headers: &HeaderMap| {
            let value = headers.get(CONTENT_TYPE)?.as_bytes();
            let rest = value.strip_prefix(b"application/grpc")?;
            matches!(rest.first(), None | Some(b'+' | b';')).then_some(Self::Grpc)
        };
        let is_post = request.method() == Method::POST;
        let grpc = is_post.then(|| content_type(request.headers())).flatten();
        grpc.unwrap_or(Self::Http)
    }
}

/// Whether a field is about the connection that it came over.
fn is_special(name: &HeaderName) -> bool {
    *name == CONNECTION || is_hop_by_hop(name)
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

fn remove_response_fields(headers: &mut HeaderMap) {
    let unwanted = headers.keys().filter(|name| is_hop_by_hop(name)).cloned();
    let names: Vec<HeaderName> = unwanted.collect();
    for name in names {
        headers.remove(name);
    }
}

const NAME: HeaderValue = HeaderValue::from_static("sluice");

const PLAIN_TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
