//! A request over HTTP/1.1, as bytes.
//!
//! The end of its body is decided here by what is known of the body, and said once (RFC 9112 §6).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, request};

use super::chunk::push_field;
use super::read_response::content_length;
use super::spelling::Spelling;
use super::target::RawTarget;
use super::trailers::trailer_names;
use super::write_response::Framing;

/// What is known about a request beside its head.
#[derive(Debug)]
pub struct RequestContext<'a, L> {
    /// Lines to write after the fields of the head.
    pub lines: Option<&'a L>,
    /// The target as the client sent it, which stands for the path and query of the URI while
    /// nobody has changed those.
    pub raw_target: Option<&'a RawTarget>,
    /// The names of the fields as the client has written them.
    pub spelling: Option<&'a Spelling>,
    /// How long the body is.
    pub body: RequestBodySize,
}

/// Complete lines of fields, each with its CRLF.
pub trait FieldLines {
    /// Bytes that they have, or a few more.
    fn length(&self) -> usize;

    /// Appends them.
    fn write(&self, out: &mut Vec<u8>);
}

/// What is known about a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestBodySize {
    /// There is none.
    Empty,
    /// It has this many bytes.
    Exactly(u64),
    /// Its end is known when it comes.
    Unknown,
}

/// Appends a request's head to `out`, and returns how its body is to be written. The target is
/// written as path and query alone.
pub fn write_request<L: FieldLines>(
    head: &request::Parts,
    context: &RequestContext<'_, L>,
    out: &mut Vec<u8>,
) -> Framing {
    let headers = &head.headers;
    let framing = framing(headers, context.body);
    let method = head.method.as_str();
    let raw = context.raw_target.and_then(|raw| raw.of(&head.uri));
    let encoded = head
        .uri
        .path_and_query()
        .map(|target| target.as_str().as_bytes());
    let target = raw.or(encoded).unwrap_or(b"/");
    // Added up for the first request only: later ones find its room.
    if out.capacity() == 0 {
        let length = |(name, value): (&HeaderName, &HeaderValue)| {
            name.as_str().len() + value.len() + ": \r\n".len()
        };
        let fields: usize = headers.iter().map(length).sum();
        let more = context.lines.map_or(0, L::length);
        out.reserve(method.len() + target.len() + fields + more + ROOM);
    }
    for part in [method.as_bytes(), b" ", target, b" HTTP/1.1\r\n"] {
        out.extend_from_slice(part);
    }
    let is_chunked = matches!(framing, Framing::Chunked { .. });
    for (name, value) in headers {
        if *name == TRANSFER_ENCODING || is_chunked && *name == CONTENT_LENGTH {
            continue;
        }
        let name = match context.spelling {
            Some(spelling) => spelling.name_of(name, value),
            None => name.as_str().as_bytes(),
        };
        push_field(name, value.as_bytes(), out);
    }
    if let Some(lines) = context.lines {
        lines.write(out);
    }
    match &framing {
        Framing::Chunked { .. } => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if !headers.contains_key(CONTENT_LENGTH) => {
            let length = HeaderValue::from(*length);
            push_field(b"content-length", length.as_bytes(), out);
        }
        Framing::Length(_) | Framing::None | Framing::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
    framing
}

fn framing(headers: &HeaderMap, body: RequestBodySize) -> Framing {
    let announced = || content_length(headers).ok().flatten();
    match body {
        RequestBodySize::Empty => Framing::None,
        RequestBodySize::Exactly(length) => Framing::Length(announced().unwrap_or(length)),
        RequestBodySize::Unknown => match announced() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked {
                trailers: trailer_names(headers),
            },
        },
    }
}

/// For what a head has beside its method, target and fields.
const ROOM: usize = 96;

#[cfg(test)]
mod tests {
    use http::{Method, Request};

    use super::*;

    struct NoLines;

    impl FieldLines for NoLines {
        fn length(&self) -> usize {
            0
        }

        fn write(&self, _: &mut Vec<u8>) {}
    }

    fn request(method: Method, target: &str, fields: &[(&str, &str)]) -> request::Parts {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn encoded(head: &request::Parts, size: RequestBodySize) -> (String, Framing) {
        let mut text = Vec::new();
        let context = RequestContext::<NoLines> {
            lines: None,
            raw_target: None,
            spelling: None,
            body: size,
        };
        let framing = write_request(head, &context, &mut text);
        (String::from_utf8(text).unwrap(), framing)
    }

    #[test]
    fn a_request_without_a_body_says_nothing_about_one() {
        let get = request(Method::GET, "/a?b", &[("host", "one.test"), ("x", "y")]);
        let (text, framing) = encoded(&get, RequestBodySize::Empty);
        assert_eq!(text, "GET /a?b HTTP/1.1\r\nhost: one.test\r\nx: y\r\n\r\n");
        assert_eq!(framing, Framing::None);
        let options = request(Method::OPTIONS, "*", &[]);
        let (text, _) = encoded(&options, RequestBodySize::Empty);
        assert_eq!(text, "OPTIONS * HTTP/1.1\r\n\r\n");
        let post = request(Method::POST, "/", &[("content-length", "0")]);
        let (text, _) = encoded(&post, RequestBodySize::Empty);
        assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n");
    }

    #[test]
    fn a_body_has_one_end() {
        let post = request(Method::POST, "/", &[("content-length", "3")]);
        for size in [RequestBodySize::Exactly(3), RequestBodySize::Unknown] {
            let (text, framing) = encoded(&post, size);
            assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
            assert_eq!(framing, Framing::Length(3));
        }
        let post = request(Method::POST, "/", &[("transfer-encoding", "gzip")]);
        let (text, framing) = encoded(&post, RequestBodySize::Exactly(3));
        assert_eq!(text, "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(framing, Framing::Length(3));
        let fields = [
            ("trailer", "X-Sum, Content-Length"),
            ("content-length", "no number"),
        ];
        let get = request(Method::GET, "/", &fields);
        let (text, framing) = encoded(&get, RequestBodySize::Unknown);
        assert!(
            text.ends_with("\r\ntransfer-encoding: chunked\r\n\r\n"),
            "{text}"
        );
        assert!(!text.contains("content-length"), "{text}");
        let trailers = vec![HeaderName::from_static("x-sum")];
        assert_eq!(framing, Framing::Chunked { trailers });
    }

    #[test]
    fn target_and_names_are_as_the_client_sent_them() {
        let (path, raw) = RawTarget::parse(&"/a?b=<c>".into()).unwrap();
        let mut head = request(Method::GET, "/", &[]);
        head.uri = path.into();
        let fields = bytes::Bytes::from("X-a: y\r\n\r\n");
        let value = HeaderValue::from_maybe_shared(fields.slice(5..6)).unwrap();
        head.headers.insert("x-a", value);
        let spelling = Spelling::new(fields);
        let context = RequestContext::<NoLines> {
            lines: None,
            raw_target: raw.as_ref(),
            spelling: Some(&spelling),
            body: RequestBodySize::Empty,
        };
        let mut text = Vec::new();
        write_request(&head, &context, &mut text);
        assert_eq!(text, b"GET /a?b=<c> HTTP/1.1\r\nX-a: y\r\n\r\n");
        head.uri = http::Uri::from_static("/other");
        let mut text = Vec::new();
        write_request(&head, &context, &mut text);
        assert_eq!(text, b"GET /other HTTP/1.1\r\nX-a: y\r\n\r\n");
    }
}
