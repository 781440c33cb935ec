//! A request over HTTP/1.1, as bytes.
//!
//! Pure. How its body ends is decided here by what we know of the body, and said once
//! (RFC 9112 §6).

use http::header::{CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, request};

use super::head::content_length;
use crate::proxy::request::forwarded::Lines;

/// How an endpoint is told where a request body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    None,
    Length(u64),
    /// By chunks; trailer fields of these names may follow.
    Chunked {
        trailers: Vec<HeaderName>,
    },
}

/// What is known about a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    None,
    Exactly(u64),
    Unknown,
}

/// Appends a request's head, with `lines` among its fields. Its target is written as path and query
/// alone.
pub(crate) fn encode(
    head: &request::Parts,
    lines: Option<&Lines>,
    size: Size,
    out: &mut Vec<u8>,
) -> Framing {
    let headers = &head.headers;
    let framing = framing(headers, size);
    let method = head.method.as_str();
    let target = head.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    // Added up for the first request only: later ones find its room.
    if out.capacity() == 0 {
        let length = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + ": \r\n".len()
        };
        let fields: usize = headers.iter().map(length).sum();
        let more = lines.map_or(0, Lines::length);
        out.reserve(method.len() + target.len() + fields + more + ROOM);
    }
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let is_chunked = matches!(framing, Framing::Chunked { .. });
    for (name, value) in headers {
        let is_framing = *name == TRANSFER_ENCODING || is_chunked && *name == CONTENT_LENGTH;
        if !is_framing {
            push_field(name, value, out);
        }
    }
    if let Some(lines) = lines {
        lines.write(out);
    }
    match &framing {
        Framing::Chunked { .. } => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if !headers.contains_key(CONTENT_LENGTH) => {
            push_field(&CONTENT_LENGTH, &HeaderValue::from(*length), out);
        }
        Framing::Length(_) | Framing::None => {}
    }
    out.extend_from_slice(b"\r\n");
    framing
}

fn framing(headers: &HeaderMap, size: Size) -> Framing {
    let said = || content_length(headers).ok().flatten();
    match size {
        Size::None => Framing::None,
        Size::Exactly(length) => Framing::Length(said().unwrap_or(length)),
        Size::Unknown => match said() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked {
                trailers: trailer_names(headers),
            },
        },
    }
}

/// The fields that a `Trailer` field announces (RFC 9110 §6.6.2), but for those that say where a
/// message ends or who it is for.
fn trailer_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !FRAMING_FIELDS.contains(&name.as_str()))
        .collect()
}

/// Appends the end of a chunked body.
pub(crate) fn encode_trailers(trailers: &HeaderMap, allowed: &[HeaderName], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if allowed.contains(name) {
            push_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn push_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Fields that may not come after a body.
const FRAMING_FIELDS: [&str; 6] = [
    "content-length",
    "transfer-encoding",
    "trailer",
    "te",
    "host",
    "connection",
];

/// For what a head has beside its method, target and fields.
const ROOM: usize = 96;

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;

    fn request(method: Method, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn encoded(head: &request::Parts, size: Size) -> (String, Framing) {
        let mut text = Vec::new();
        let framing = encode(head, None, size, &mut text);
        (String::from_utf8(text).unwrap(), framing)
    }

    #[test]
    fn a_request_without_a_body_says_nothing_about_one() {
        let get = request(Method::GET, "/a?b", &[("host", "one.test"), ("x", "y")]);
        let (text, framing) = encoded(&get, Size::None);
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: one.test\r\nx: y\r\n\r\n");
        assert_eq!(framing, Framing::None);
        let options = request(Method::OPTIONS, "*", &[]);
        let (text, _) = encoded(&options, Size::None);
        assert_eq!(text, "OPTIONS * HTTP/1.1\r\n\r\n");
        let post = request(Method::POST, "/", &[("content-length", "0")]);
        let (text, _) = encoded(&post, Size::None);
        assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_body_has_one_end() {
        let post = request(Method::POST, "/", &[("content-length", "3")]);
        for size in [Size::Exactly(3), Size::Unknown] {
            let (text, framing) = encoded(&post, size);
            assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
            assert_eq!(framing, Framing::Length(3));
        }
        let post = request(Method::POST, "/", &[("transfer-encoding", "gzip")]);
        let (text, framing) = encoded(&post, Size::Exactly(3));
        assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(framing, Framing::Length(3));
        let fields = [
            ("trailer", "X-Sum, Content-Length"),
            ("content-length", "no number"),
        ];
        let get = request(Method::GET, "/", &fields);
        let (text, framing) = encoded(&get, Size::Unknown);
        assert!(
            text.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"),
            "{text}"
        );
        assert!(!text.contains("content-length"), "{text}");
        let trailers = vec![HeaderName::from_static("x-sum")];
        assert_eq!(framing, Framing::Chunked { trailers });
    }

    #[test]
    fn only_announced_trailers_are_sent() {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("1"));
        trailers.insert("x-other", HeaderValue::from_static("2"));
        let mut text = Vec::new();
        encode_trailers(&trailers, &[HeaderName::from_static("x-sum")], &mut text);
        assert_eq!(text, b"0\r\nx-sum: 1\r\n\r\n");
    }
}
