//! Requests that the proxy itself sends to services: the fields they copy from the client's request.

use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use ingress_core::oidc::cookie;

/// The fields of a client's request that a service gets: all but those of its connection and body,
/// and the cookies of logins.
pub(crate) fn forwarded_fields(headers: &HeaderMap) -> HeaderMap {
    const LEFT_OUT: [HeaderName; 8] = [
        CONNECTION,
        CONTENT_LENGTH,
        EXPECT,
        HOST,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    const OTHERS: [&str; 6] = [
        "keep-alive",
        "proxy-connection",
        "http2-settings",
        "x-forwarded-proto",
        "x-forwarded-for",
        "x-real-ip",
    ];
    let is_left_out =
        |name: &HeaderName| LEFT_OUT.contains(name) || OTHERS.contains(&name.as_str());
    let fields = headers.iter();
    let fields = fields.filter(|(name, _)| !is_left_out(name) && !name.as_str().contains('_'));
    let mut forwarded: HeaderMap = fields
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    match cookie::without_ours(headers) {
        None => {}
        Some(None) => drop(forwarded.remove(COOKIE)),
        Some(Some(others)) => drop(forwarded.insert(COOKIE, others)),
    }
    forwarded
}
