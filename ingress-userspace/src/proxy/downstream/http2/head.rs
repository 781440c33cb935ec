//! The fields of a request, and what is wrong with them (RFC 9113 §8.2 and §8.3).
//!
//! A request that is malformed costs its stream and not its connection, and nobody else sees it.

use bytes::Bytes;
use http::header::{
    CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Request, Uri, Version};
use hyper::ext::Protocol;
use ingress_wire::hpack::{Field, Pseudo};
use ingress_wire::http1::{RawTarget, is_method, remove_forbidden_trailers};
use ingress_wire::http2::frame::Reason;

use super::stream::RequestMeta;

/// Fields as they are decoded.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    method: Option<Bytes>,
    scheme: Option<Bytes>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
    protocol: Option<Bytes>,
    headers: HeaderMap,
    cookies: usize,
    is_malformed: bool,
    is_too_many: bool,
}

impl Fields {
    /// One more.
    pub(crate) fn add(&mut self, field: Field) {
        match field {
            Field::Header(name, value) => {
                self.is_malformed |= is_about_connection(&name, &value);
                self.cookies += usize::from(name == COOKIE);
                self.is_too_many |= self.headers.try_append(name, value).is_err();
            }
            Field::Pseudo(name, value) => {
                let slot = match name {
                    Pseudo::Method => &mut self.method,
                    Pseudo::Scheme => &mut self.scheme,
                    Pseudo::Authority => &mut self.authority,
                    Pseudo::Path => &mut self.path,
                    Pseudo::Protocol => &mut self.protocol,
                    Pseudo::Status => return self.is_malformed = true,
                };
                // Once at most, and before all others.
                self.is_malformed |= slot.is_some() || !self.headers.is_empty();
                *slot = Some(value);
            }
            Field::Malformed => self.is_malformed = true,
        }
    }

    /// Whether there are more than a map has room for.
    pub(crate) fn is_too_many(&self) -> bool {
        self.is_too_many
    }

    /// The fields after a body.
    pub(crate) fn into_trailers(self) -> Result<HeaderMap, Reason> {
        let pseudo = [
            self.method,
            self.scheme,
            self.authority,
            self.path,
            self.protocol,
        ];
        if self.is_malformed || pseudo.iter().any(Option::is_some) {
            return Err(Reason::PROTOCOL_ERROR);
        }
        let mut trailers = self.headers;
        remove_forbidden_trailers(&mut trailers);
        Ok(trailers)
    }

    /// The head of a request, and what it says about its stream. `is_complete` if no body follows.
    pub(crate) fn into_request(self, is_complete: bool) -> Result<RequestParts, Reason> {
        let request = self.request(is_complete);
        request.ok_or(Reason::PROTOCOL_ERROR)
    }

    fn request(self, is_complete: bool) -> Option<RequestParts> {
        if self.is_malformed {
            return None;
        }
        let method = self.method.filter(|method| is_method(method))?;
        let method = Method::from_bytes(&method).ok()?;
        let is_connect = method == Method::CONNECT;
        if self.protocol.is_some() && !is_connect {
            return None;
        }
        let has_target = !is_connect || self.protocol.is_some();
        if self.scheme.is_some() != has_target || self.path.is_some() != has_target {
            return None;
        }
        let length = length(&self.headers).ok()?;
        if is_complete && length.is_some_and(|length| length > 0) {
            return None;
        }
        let mut request = Request::new(());
        let scheme = self.scheme.as_deref();
        let (uri, raw_target) = target(&method, scheme, self.authority, self.path)?;
        *request.uri_mut() = uri;
        let mut beginning = RequestMeta {
            is_connect: false,
            expects_continue: self.headers.get(EXPECT).is_some_and(expects_continue),
            is_complete,
            length,
        };
        if let Some(protocol) = self.protocol {
            let protocol = std::str::from_utf8(&protocol).ok()?;
            request.extensions_mut().insert(Protocol::from(protocol));
            beginning.is_connect = true;
        }
        *request.method_mut() = method;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        if self.cookies > 1 {
            join_cookies(request.headers_mut());
        }
        Some((request, beginning, raw_target))
    }
}

/// A request, what it says about its stream, and its target where the URI is an encoded form of it.
pub(crate) type RequestParts = (Request<()>, RequestMeta, Option<RawTarget>);

fn target(
    method: &Method,
    scheme: Option<&[u8]>,
    authority: Option<Bytes>,
    path: Option<Bytes>,
) -> Option<(Uri, Option<RawTarget>)> {
    let mut raw_target = None;
    let mut parts = Parts::default();
    let scheme = match scheme {
        Some(b"https") => Some(Scheme::HTTPS),
        Some(b"http") => Some(Scheme::HTTP),
        Some(other) => Some(Scheme::try_from(other).ok()?),
        None => None,
    };
    if let Some(authority) = authority {
        parts.authority = Some(Authority::from_maybe_shared(authority).ok()?);
        // A target without an authority has no scheme either: `Host` says who it is for.
        parts.scheme = scheme;
    }
    match path {
        // RFC 9113 §8.3.1: of OPTIONS alone.
        Some(path) if path == "*" && *method == Method::OPTIONS => {
            parts.path_and_query = Some(PathAndQuery::from_static("*"));
        }
        Some(path) => {
            let (path, raw) = RawTarget::parse(&path).ok()?;
            parts.path_and_query = Some(path);
            raw_target = raw;
        }
        None => {}
    }
    Some((Uri::from_parts(parts).ok()?, raw_target))
}

/// What `Content-Length` says, if there is one. An error: it is no length, or several.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Reason> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let Some(first) = values.next() else {
        return Ok(None);
    };
    let text = first.to_str().unwrap_or_default();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || values.any(|value| value != first) {
        return Err(Reason::PROTOCOL_ERROR);
    }
    let length = text.parse().map_err(|_| Reason::PROTOCOL_ERROR)?;
    Ok(Some(length))
}

/// Makes one field of the several that a client may have cut its cookies into, as others expect it
/// (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs = headers.get_all(COOKIE).iter();
    let crumbs: Vec<&[u8]> = crumbs.map(HeaderValue::as_bytes).collect();
    let whole = HeaderValue::from_maybe_shared(Bytes::from(crumbs.join(&b"; "[..])));
    if let Ok(whole) = whole {
        headers.insert(COOKIE, whole);
    }
}

fn expects_continue(expect: &HeaderValue) -> bool {
    expect.as_bytes().eq_ignore_ascii_case(b"100-continue")
}

/// Whether a field is one of those that HTTP/2 has no use for (RFC 9113 §8.2.2).
fn is_about_connection(name: &HeaderName, value: &HeaderValue) -> bool {
    if *name == TE {
        return !value.as_bytes().eq_ignore_ascii_case(b"trailers");
    }
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "one.test"),
        (":path", "/a?b"),
    ];

    fn fields(all: &[(&'static str, &'static str)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in all {
            let pseudo = match *name {
                ":method" => Some(Pseudo::Method),
                ":scheme" => Some(Pseudo::Scheme),
                ":authority" => Some(Pseudo::Authority),
                ":path" => Some(Pseudo::Path),
                ":protocol" => Some(Pseudo::Protocol),
                ":status" => Some(Pseudo::Status),
                _ => None,
            };
            fields.add(match pseudo {
                Some(pseudo) => Field::Pseudo(pseudo, Bytes::from_static(value.as_bytes())),
                None => Field::Header(
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                ),
            });
        }
        fields
    }

    fn with(more: &[(&'static str, &'static str)]) -> Fields {
        fields(&[&GET, more].concat())
    }

    #[test]
    fn a_request_has_what_it_needs() {
        let (request, beginning, _) = with(&[("a", "b")]).into_request(true).unwrap();
        assert_eq!(request.uri(), "https://one.test/a?b");
        assert_eq!(request.version(), Version::HTTP_2);
        assert!(!beginning.is_connect && beginning.length.is_none());
        for (left_out, (name, _)) in GET.iter().enumerate() {
            let mut some = GET.to_vec();
            some.remove(left_out);
            let is_fine = fields(&some).into_request(true).is_ok();
            assert_eq!(is_fine, *name == ":authority");
        }
    }

    #[test]
    fn malformed_heads_are_refused() {
        for bad in [
            (":path", "/again"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("te", "gzip"),
            ("content-length", "+1"),
            ("content-length", ""),
            ("content-length", "99999999999999999999"),
        ] {
            let read = with(&[bad]).into_request(false);
            assert_eq!(read.unwrap_err(), Reason::PROTOCOL_ERROR, "{bad:?}");
        }
        let late = fields(&[("a", "b"), GET[0], GET[1], GET[2], GET[3]]);
        assert!(late.into_request(true).is_err());
        assert!(with(&[("te", "trailers")]).into_request(true).is_ok());
        let two = [("content-length", "1"), ("content-length", "2")];
        assert!(with(&two).into_request(false).is_err());
    }

    #[test]
    fn a_length_is_known_before_the_body() {
        let length = [("content-length", "7"), ("expect", "100-Continue")];
        let (_, beginning, _) = with(&length).into_request(false).unwrap();
        assert_eq!(beginning.length, Some(7));
        assert!(beginning.expects_continue);
        assert!(with(&length).into_request(true).is_err());
    }

    #[test]
    fn cookies_that_were_cut_are_put_together() {
        let crumbs = [("cookie", "a=1"), ("b", "c"), ("cookie", "d=2; e=3")];
        let (request, ..) = with(&crumbs).into_request(true).unwrap();
        let cookies: Vec<_> = request.headers().get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["a=1; d=2; e=3"]);
    }

    #[test]
    fn a_connect_has_a_target_if_it_is_extended() {
        let connect = [(":method", "CONNECT"), GET[2]];
        assert!(fields(&connect).into_request(true).is_ok());
        let protocol = (":protocol", "websocket");
        assert!(
            fields(&[connect[0], connect[1], protocol])
                .into_request(false)
                .is_err()
        );
        let extended = [connect[0], GET[1], GET[2], GET[3], protocol];
        let (request, beginning, _) = fields(&extended).into_request(false).unwrap();
        assert!(beginning.is_connect);
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
        assert!(fields(&extended[..4]).into_request(false).is_err());
    }

    #[test]
    fn trailers_are_fields_alone() {
        assert_eq!(fields(&[("a", "b")]).into_trailers().unwrap().len(), 1);
        assert!(fields(&[GET[0]]).into_trailers().is_err());
        assert!(fields(&[("connection", "a")]).into_trailers().is_err());
    }
}
