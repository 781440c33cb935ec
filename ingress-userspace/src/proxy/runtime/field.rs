//! Header fields as several floors write and read them: names, and values in their usual forms.

use std::net::IpAddr;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use http::request;

use crate::proxy::runtime::transport::Scheme;

/// The host that a request is for, as it was spelled.
pub(crate) fn host_of(head: &request::Parts) -> &[u8] {
    let field = || head.headers.get(HOST).map(HeaderValue::as_bytes);
    let authority = head.uri.authority().map(|host| host.as_str().as_bytes());
    authority.or_else(field).unwrap_or_default()
}

pub(crate) fn scheme_value(scheme: Scheme) -> HeaderValue {
    match scheme {
        Scheme::Http => HeaderValue::from_static("http"),
        Scheme::Https => HeaderValue::from_static("https"),
    }
}

/// The value of a field, all lines of it in one (RFC 9110 §5.3). `None` if there is none.
pub(crate) fn lines_in_one(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?.clone();
    let mut joined = BytesMut::new();
    for line in lines {
        joined.put_slice(b", ");
        joined.put_slice(line.as_bytes());
    }
    if joined.is_empty() {
        return Some(first);
    }
    let all = [first.as_bytes(), &joined].concat();
    HeaderValue::from_maybe_shared(Bytes::from(all)).ok()
}

/// Removes what `Connection` names, and `Connection` itself. Returns the value of `Upgrade` if it
/// was among that.
pub(crate) fn remove_connection_fields(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let mut lines = headers.get_all(CONNECTION).iter();
    let first = lines.next()?;
    if lines.next().is_none() && names_nothing(first) {
        headers.remove(CONNECTION);
        return None;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    headers.remove(CONNECTION);
    let protocols = sole(headers, &UPGRADE).filter(|_| named.contains(&UPGRADE));
    for name in named {
        headers.remove(name);
    }
    protocols
}

/// The value of a field that has one line.
fn sole(headers: &HeaderMap, name: &HeaderName) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next()?;
    lines.next().is_none().then(|| line.clone())
}

/// The usual values, which say something about the connection and name no field but one that is
/// removed anyway.
fn names_nothing(connection: &HeaderValue) -> bool {
    connection.as_bytes().eq_ignore_ascii_case(b"keep-alive")
        || connection.as_bytes().eq_ignore_ascii_case(b"close")
}

/// An address as a header value. For IPv4, which is nearly all, without the detour of formatting.
pub(crate) fn address_value(address: IpAddr) -> HeaderValue {
    let IpAddr::V4(address) = address else {
        return header_value(address.to_string());
    };
    let mut text = [0; "255.255.255.255".len()];
    let mut length = 0;
    for (number, octet) in address.octets().into_iter().enumerate() {
        if number > 0 {
            text[length] = b'.';
            length += 1;
        }
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(octet).as_bytes();
        text[length..length + digits.len()].copy_from_slice(digits);
        length += digits.len();
    }
    HeaderValue::from_bytes(&text[..length]).unwrap_or(HeaderValue::from_static(""))
}

/// A header value of text that is made of visible ASCII.
pub(crate) fn header_value(text: String) -> HeaderValue {
    HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static(""))
}

pub(crate) const FORWARDED: HeaderName = HeaderName::from_static("forwarded");
pub(crate) const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) const X_SCHEME: HeaderName = HeaderName::from_static("x-scheme");
pub(crate) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(crate) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(crate) const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
pub(crate) const X_FORWARDED_SCHEME: HeaderName = HeaderName::from_static("x-forwarded-scheme");
pub(crate) const X_ORIGINAL_FORWARDED_FOR: HeaderName =
    HeaderName::from_static("x-original-forwarded-for");
pub(crate) const X_ORIGINAL_FORWARDED_HOST: HeaderName =
    HeaderName::from_static("x-original-forwarded-host");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_usual() {
        for text in ["0.0.0.0", "10.2.30.199", "255.255.255.255", "2001:db8::7"] {
            assert_eq!(address_value(text.parse().unwrap()), text);
        }
    }
}
