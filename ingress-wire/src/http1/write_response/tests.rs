//! What is written for responses of each kind.

use http::{HeaderMap, Response};

use super::*;

struct Case {
    status: u16,
    fields: &'static [(&'static str, &'static str)],
    context: ResponseContext<'static>,
}

fn date() -> HeaderValue {
    HeaderValue::from_static("D")
}

fn context(body: ResponseBodySize) -> ResponseContext<'static> {
    ResponseContext {
        version: Version::HTTP_11,
        is_head: false,
        persistence: Persistence::KeepAlive,
        accepts_trailers: false,
        body,
        spelling: None,
    }
}

fn head(status: u16, fields: &[(&'static str, &'static str)]) -> response::Parts {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_static(value));
    }
    let (mut head, ()) = Response::new(()).into_parts();
    head.status = StatusCode::from_u16(status).unwrap();
    head.headers = headers;
    head
}

fn written(case: &Case) -> (String, Framing, Persistence) {
    let mut out = Vec::new();
    let head = head(case.status, case.fields);
    let (framing, persistence) = write_response(&head, &case.context, date, &mut out);
    (String::from_utf8(out).unwrap(), framing, persistence)
}

use ResponseBodySize::{Empty, Exactly, Unknown};

const LENGTH: &[(&str, &str)] = &[("content-length", "3")];

const TWICE: &[(&str, &str)] = &[("content-length", "3"), ("content-length", "3")];

/// The fields between those of the head and the date, and how the body is written.
fn end_of(
    status: u16,
    fields: &'static [(&'static str, &'static str)],
    context: ResponseContext<'static>,
) -> (String, Framing) {
    let case = Case {
        status,
        fields,
        context,
    };
    let (text, framing, _) = written(&case);
    let fields = text.split_once("\r\n").unwrap().1;
    let fields = fields.split("date: D\r\n").next().unwrap();
    (fields.replace("\r\n", ""), framing)
}

fn ends(text: &str, framing: Framing) -> (String, Framing) {
    (text.to_owned(), framing)
}

#[test]
fn a_length_is_written_once_and_is_that_of_the_body() {
    let three = ends("content-length: 3", Framing::Length(3));
    assert_eq!(end_of(200, LENGTH, context(Exactly(3))), three);
    assert_eq!(end_of(200, &[], context(Exactly(3))), three);
    assert_eq!(end_of(200, TWICE, context(Exactly(3))), three);
    let four = ends("content-length: 4", Framing::Length(4));
    assert_eq!(end_of(200, LENGTH, context(Exactly(4))), four);
    let none = ends("content-length: 0", Framing::None);
    assert_eq!(end_of(200, &[], context(Empty)), none);
    assert_eq!(end_of(404, LENGTH, context(Empty)), none);
}

#[test]
fn a_body_of_unknown_length_is_chunked_or_ends_with_the_connection() {
    let chunked = Framing::Chunked { trailers: vec![] };
    let chunked = ends("transfer-encoding: chunked", chunked);
    assert_eq!(end_of(200, LENGTH, context(Unknown)), chunked);
    let coded = &[("transfer-encoding", "gzip")];
    assert_eq!(end_of(200, coded, context(Unknown)), chunked);
    let old = ResponseContext {
        version: Version::HTTP_10,
        ..context(Unknown)
    };
    assert_eq!(end_of(200, &[], old), ends("", Framing::UntilClose));
}

#[test]
fn responses_without_a_body_have_the_length_of_one_where_they_may() {
    let nothing = ends("", Framing::None);
    let length = ends("content-length: 3", Framing::None);
    let head = ResponseContext {
        is_head: true,
        ..context(Unknown)
    };
    for (status, fields, context, expected) in [
        (204, LENGTH, context(Empty), &nothing),
        (204, &[], context(Unknown), &nothing),
        (304, LENGTH, context(Empty), &length),
        (304, &[], context(Empty), &nothing),
        (200, LENGTH, head, &length),
        (200, &[], head, &nothing),
    ] {
        assert_eq!(&end_of(status, fields, context), expected, "{status}");
    }
}

#[test]
fn the_end_of_a_connection_is_announced() {
    let old = ResponseContext {
        version: Version::HTTP_10,
        ..context(Empty)
    };
    let last = ResponseContext {
        persistence: Persistence::Close,
        ..context(Empty)
    };
    let closing: &[(&str, &str)] = &[("connection", "close")];
    let until_close = ResponseContext {
        body: Unknown,
        ..old
    };
    for (fields, context, expected, goes_on) in [
        (&[][..], context(Empty), "", true),
        (&[], last, "connection: close\r\n", false),
        (closing, context(Empty), "connection: close\r\n", false),
        (&[], old, "connection: keep-alive\r\n", true),
        (&[], until_close, "connection: close\r\n", false),
    ] {
        let case = Case {
            status: 200,
            fields,
            context,
        };
        let (text, _, persistence) = written(&case);
        let end = text.split_once("date: D\r\n").unwrap().1;
        assert_eq!(end, format!("{expected}\r\n"));
        assert_eq!(
            persistence == Persistence::KeepAlive,
            goes_on,
            "{context:?}"
        );
    }
}

#[test]
fn an_upgrade_keeps_its_fields() {
    let case = Case {
        status: 101,
        fields: &[
            ("connection", "upgrade"),
            ("upgrade", "x"),
            ("date", "then"),
        ],
        context: context(Empty),
    };
    let expected = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\
        date: then\r\n\r\n";
    assert_eq!(written(&case).0, expected);
}

#[test]
fn trailers_are_for_clients_that_take_them() {
    for (accepts_trailers, names) in [(true, &["x-sum"][..]), (false, &[])] {
        let case = Case {
            status: 200,
            fields: &[("trailer", "X-Sum, host")],
            context: ResponseContext {
                accepts_trailers,
                ..context(Unknown)
            },
        };
        let (_, framing, _) = written(&case);
        let trailers = names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect();
        assert_eq!(framing, Framing::Chunked { trailers });
    }
}

#[test]
fn words_and_names_are_those_of_the_endpoint() {
    let mut head = head(200, &[]);
    head.extensions.insert(ReasonPhrase::new(b"Fine").unwrap());
    let fields = bytes::Bytes::from("ETag: a\r\nX-CamelCase: b\r\n\r\n");
    for (name, at) in [("etag", 6), ("x-camelcase", 22)] {
        let value = HeaderValue::from_maybe_shared(fields.slice(at..=at)).unwrap();
        head.headers.insert(name, value);
    }
    let spelling = Spelling::new(fields);
    let context = ResponseContext {
        spelling: Some(&spelling),
        ..context(Empty)
    };
    let mut out = Vec::new();
    write_response(&head, &context, date, &mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.starts_with("HTTP/1.1 200 Fine\r\nETag: a\r\nX-CamelCase: b\r\n"),
        "{text}"
    );
    assert_eq!(ReasonPhrase::new(b"a\r\nb"), None);
}

#[test]
fn an_interim_response_is_a_line() {
    let mut out = Vec::new();
    write_interim(StatusCode::CONTINUE, &mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
}
