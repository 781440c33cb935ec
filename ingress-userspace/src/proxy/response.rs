//! The head of a response: what of an endpoint's answer a client gets to see, and our own answers.

use http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, SERVER};
use http::{Response, Version, response};

use super::body::ResponseBody;
use super::connection::InFlight;
use super::error::Failure;
use super::request::remove_connection_fields;

/// Rewrites a head that came from an endpoint to the one for a client.
///
/// `Server` is the endpoint's where it sends one. ingress-nginx removes it and nginx then names
/// itself; the Ingress conformance tests want the field present, so we do the same where the
/// endpoint is silent, without a version.
pub(super) fn rewrite(head: &mut response::Parts) {
    // hyper answers in the version of the client.
    head.version = Version::HTTP_11;
    remove_connection_fields(&mut head.headers);
    remove_response_fields(&mut head.headers);
    head.headers.entry(SERVER).or_insert(NAME);
}

/// The answer to a request that no endpoint answers.
pub(super) fn failure(failure: &Failure, in_flight: InFlight) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::text(failure.text(), in_flight));
    *response.status_mut() = failure.status();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    headers.insert(SERVER, NAME);
    response
}

fn remove_response_fields(headers: &mut HeaderMap) {
    let hop_by_hop = |name: &&HeaderName| {
        matches!(
            name.as_str(),
            "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
        )
    };
    // Nearly always none: the vector does not allocate then.
    let names: Vec<HeaderName> = headers.keys().filter(hop_by_hop).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

const NAME: HeaderValue = HeaderValue::from_static("sluice");
