//! The target of a request (RFC 9112 §3.2), and what of it `http::Uri` cannot hold.
//!
//! Clients send characters in targets that RFC 3986 wants encoded: quotes, angle brackets, bytes in
//! UTF-8 or Latin-1. `http::Uri` refuses some of them. A request with such a target has the encoded
//! form as its URI, by which it is routed, and a [`RawTarget`] beside it, which an endpoint gets.

use bytes::{BufMut as _, Bytes, BytesMut};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{Method, Uri};

use super::read_request::RequestError;
use super::syntax::{is_authority, is_target};
use crate::limits::TARGET_BYTES_MAX;

/// A path with its query as a client sent it, where a [`Uri`] cannot hold it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawTarget {
    raw: Bytes,
    encoded: PathAndQuery,
}

impl RawTarget {
    /// Takes a path with its query. The second value is set if the first is an encoded form of it.
    ///
    /// # Errors
    ///
    /// Returns an error for text that does not begin with `/`, that has a space or control
    /// character, or that is too long.
    pub fn parse(text: &Bytes) -> Result<(PathAndQuery, Option<Self>), RequestError> {
        if text.len() > TARGET_BYTES_MAX {
            return Err(RequestError::TargetTooLong);
        }
        if !is_target(text) {
            return Err(RequestError::Target);
        }
        Self::parse_visible(text)
    }

    /// The same for text that was looked at before.
    fn parse_visible(text: &Bytes) -> Result<(PathAndQuery, Option<Self>), RequestError> {
        if !text.starts_with(b"/") {
            return Err(RequestError::Target);
        }
        if let Ok(path) = PathAndQuery::from_maybe_shared(text.clone()) {
            return Ok((path, None));
        }
        let encoded = PathAndQuery::from_maybe_shared(encoded(text));
        let encoded = encoded.map_err(|_| RequestError::Target)?;
        // A fragment is not for servers, and `encoded` ends before it.
        let end = memchr::memchr(b'#', text).unwrap_or(text.len());
        let raw = Self {
            raw: text.slice(..end),
            encoded: encoded.clone(),
        };
        Ok((encoded, Some(raw)))
    }

    /// The bytes to send for a request to `uri`; `None` if somebody has changed the path or query
    /// since the client sent them.
    pub fn of(&self, uri: &Uri) -> Option<&[u8]> {
        (uri.path_and_query()? == &self.encoded).then_some(&self.raw)
    }

    /// The path without its query.
    pub fn path(&self) -> &[u8] {
        let end = memchr::memchr(b'?', &self.raw);
        end.map_or(&self.raw, |end| &self.raw[..end])
    }

    /// The query, if there is one.
    pub fn query(&self) -> Option<&[u8]> {
        let end = memchr::memchr(b'?', &self.raw)?;
        Some(&self.raw[end + 1..])
    }
}

/// Percent-encodes each byte that `http::Uri` may refuse.
fn encoded(text: &[u8]) -> Bytes {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    let mut out = BytesMut::with_capacity(text.len() + 32);
    for byte in text {
        if matches!(
            byte,
            b'"' | b'<' | b'>' | b'`' | b'^' | b'\\' | b'{' | b'|' | b'}' | 0x7f..
        ) {
            let digits = [byte >> 4, byte & 0xf].map(|digit| DIGITS[usize::from(digit)]);
            out.put_u8(b'%');
            out.put_slice(&digits);
        } else {
            out.put_u8(*byte);
        }
    }
    out.freeze()
}

/// Reads the target of a request.
pub(super) fn read(
    method: &Method,
    text: &Bytes,
) -> Result<(Uri, Option<RawTarget>), RequestError> {
    if *method == Method::CONNECT {
        return Ok((authority_form(text)?, None));
    }
    match &text[..] {
        [b'/', ..] => {
            let (path, raw) = RawTarget::parse_visible(text)?;
            Ok((Uri::from(path), raw))
        }
        b"*" if *method == Method::OPTIONS => Ok((Uri::from_static("*"), None)),
        _ => absolute_form(text),
    }
}

/// The target of a CONNECT, which nobody else has (RFC 9112 §3.2.3).
fn authority_form(text: &Bytes) -> Result<Uri, RequestError> {
    let mut parts = Parts::default();
    parts.authority = Some(authority(text.clone())?);
    Uri::from_parts(parts).map_err(|_| RequestError::Target)
}

/// A target with scheme and authority (RFC 9112 §3.2.2).
fn absolute_form(text: &Bytes) -> Result<(Uri, Option<RawTarget>), RequestError> {
    let is_scheme = |scheme: &[u8]| {
        let (begin, rest) = text.split_at_checked(scheme.len())?;
        begin.eq_ignore_ascii_case(scheme).then_some(rest)
    };
    let (scheme, rest) = if let Some(rest) = is_scheme(b"http://") {
        (Scheme::HTTP, rest)
    } else if let Some(rest) = is_scheme(b"https://") {
        (Scheme::HTTPS, rest)
    } else {
        return Err(RequestError::Target);
    };
    let end = rest
        .iter()
        .position(|byte| b"/?#".contains(byte))
        .unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let mut parts = Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority(text.slice_ref(host))?);
    let path = match path {
        [b'/', ..] => text.slice_ref(path),
        // An empty path means `/` (RFC 9110 §4.2.3).
        _ => [b"/", path].concat().into(),
    };
    let (path, raw) = RawTarget::parse_visible(&path)?;
    parts.path_and_query = Some(path);
    let uri = Uri::from_parts(parts).map_err(|_| RequestError::Target)?;
    Ok((uri, raw))
}

fn authority(text: Bytes) -> Result<Authority, RequestError> {
    if text.is_empty() || !is_authority(&text) {
        return Err(RequestError::Target);
    }
    Authority::from_maybe_shared(text).map_err(|_| RequestError::Target)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn target(method: &Method, text: &[u8]) -> Result<(Uri, Option<RawTarget>), RequestError> {
        read(method, &Bytes::copy_from_slice(text))
    }

    #[test]
    fn each_form_is_for_its_methods() {
        let get = |text| target(&Method::GET, text).map(|(uri, _)| uri.to_string());
        assert_eq!(get(b"/a?b").unwrap(), "/a?b");
        assert_eq!(
            get(b"http://a.test:80/x?y").unwrap(),
            "http://a.test:80/x?y"
        );
        assert_eq!(get(b"HTTPS://a.test").unwrap(), "https://a.test/");
        assert_eq!(get(b"http://a.test?b").unwrap(), "http://a.test/?b");
        for text in [
            &b"foo"[..],
            b"foo:80",
            b"*",
            b"?a",
            b"ftp://a.test/",
            b"http:///a",
            b"http://u@a.test/",
            b"http:/a",
        ] {
            assert_eq!(
                get(text),
                Err(RequestError::Target),
                "{}",
                text.escape_ascii()
            );
        }
        let (uri, _) = target(&Method::OPTIONS, b"*").unwrap();
        assert_eq!(uri, "*");
        let (uri, _) = target(&Method::CONNECT, b"a.test:443").unwrap();
        assert_eq!(uri.authority().unwrap(), "a.test:443");
        assert!(target(&Method::CONNECT, b"/").is_err());
    }

    #[test]
    fn characters_that_a_uri_does_not_hold_are_kept_beside_it() {
        for text in [
            &b"/q?query=up{job=\"node\"}"[..],
            b"/a`b",
            b"/s?hl=<b>",
            b"/a^b|c\\d",
            b"/u?name=utsav\xf1",
            b"/\xfc/x",
        ] {
            let (uri, raw) = target(&Method::GET, text).unwrap();
            let sent = raw.as_ref().and_then(|raw| raw.of(&uri));
            let held = uri.path_and_query().unwrap().as_str().as_bytes();
            assert_eq!(sent.unwrap_or(held), text, "{}", text.escape_ascii());
        }
        let (uri, raw) = target(&Method::GET, b"/a?b=<c>").unwrap();
        assert_eq!(uri, "/a?b=%3Cc%3E");
        let raw = raw.unwrap();
        assert_eq!(raw.path(), b"/a");
        assert_eq!(raw.query(), Some(&b"b=<c>"[..]));
        assert_eq!(raw.of(&Uri::from_static("/other")), None);
    }

    #[test]
    fn fragments_end_here() {
        for (text, expected) in [(&b"/a#b"[..], &b"/a"[..]), (b"/<#b", b"/<")] {
            let (uri, raw) = target(&Method::GET, text).unwrap();
            let held = uri.path_and_query().unwrap().as_str().as_bytes();
            let sent = raw.as_ref().and_then(|raw| raw.of(&uri));
            assert_eq!(sent.unwrap_or(held), expected);
        }
    }

    proptest! {
        #[test]
        fn visible_bytes_pass_unchanged(rest in prop::collection::vec(0x21..=0xff_u8, 0..60)) {
            let rest = rest.into_iter().filter(|byte| !matches!(byte, b'#' | 0x7f));
            let text: Vec<u8> = [b'/'].into_iter().chain(rest).collect();
            let (uri, raw) = target(&Method::GET, &text).unwrap();
            let held = uri.path_and_query().unwrap().as_str().as_bytes();
            let sent = raw.as_ref().and_then(|raw| raw.of(&uri));
            prop_assert_eq!(sent.unwrap_or(held), &text[..]);
        }
    }
}
