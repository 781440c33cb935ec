//! Requests that are taken, and those that are refused.

use http::Method;
use proptest::prelude::*;

use super::super::check::check_requests;
use super::*;
use crate::corpus;

const BOUNDS: HeadBounds = HeadBounds {
    bytes_max: 1024,
    fields_max: 20,
};

fn read(text: &[u8]) -> Result<Option<RequestHead>, RequestError> {
    let mut ranges = FieldRanges::default();
    let mut headers = HeaderMap::new();
    RequestReader::default().read(text, BOUNDS, &mut ranges, &mut headers)
}

/// Gives the text byte by byte.
fn read_in_parts(text: &[u8]) -> Result<Option<RequestHead>, RequestError> {
    let mut ranges = FieldRanges::default();
    let mut headers = HeaderMap::new();
    let mut reader = RequestReader::default();
    for end in 1..=text.len() {
        if let Some(head) = reader.read(&text[..end], BOUNDS, &mut ranges, &mut headers)? {
            return Ok(Some(head));
        }
    }
    Ok(None)
}

/// What is to be the same however a head comes.
fn facts(head: &RequestHead) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        head.request.method().clone(),
        head.request.uri().clone(),
        head.request.version(),
        head.request.headers().clone(),
        head.raw_target.clone(),
        head.body.clone(),
        head.persistence,
        head.length,
    )
}

fn head(text: &str) -> RequestHead {
    read(text.as_bytes()).unwrap().unwrap()
}

#[test]
fn a_head_has_its_parts() {
    let text = "\r\n\r\nPOST /a?b HTTP/1.1\r\nHost: one.test\r\nX-A: b\r\nx-a: c\r\n\
        Content-Length: 7\r\nExpect: 100-Continue\r\nTE: gzip, Trailers;q=1\r\n\r\nGET";
    let read = head(text);
    assert_eq!(read.request.method(), Method::POST);
    assert_eq!(read.request.uri(), "/a?b");
    assert_eq!(read.request.headers().get_all("x-a").iter().count(), 2);
    assert_eq!(read.body, BodyDecoder::length(7));
    assert_eq!(read.persistence, Persistence::KeepAlive);
    assert!(read.asks.interim && read.asks.trailers && !read.asks.upgrade);
    assert_eq!(read.length, text.len() - 3);
    let spelling = read.spelling.as_ref().unwrap();
    let fields = read.request.headers().iter();
    let names = fields.map(|(name, value)| spelling.name_of(name, value));
    let expected = ["Host", "X-A", "x-a", "Content-Length", "Expect", "TE"];
    assert!(names.eq(expected.map(str::as_bytes)));
    assert!(head("GET / HTTP/1.1\r\nhost: a\r\n\r\n").spelling.is_none());
}

#[test]
fn an_http_1_0_request_needs_no_host_and_expects_nothing() {
    let old = head("GET / HTTP/1.0\r\nexpect: 100-continue\r\n\r\n");
    assert!(!old.asks.interim);
    assert_eq!(old.persistence, Persistence::Close);
    let kept = head("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    assert_eq!(kept.persistence, Persistence::KeepAlive);
}

#[test]
fn a_target_and_host_name_one_host() {
    for (target, host, is_good) in [
        ("http://one.test/x", "one.test", true),
        ("http://ONE.test:80/x", "one.test", true),
        ("https://one.test", "one.test:443", true),
        ("http://one.test/x", "two.test", false),
        ("http://one.test:8080/x", "one.test", false),
        ("http://one.test/x", "", false),
    ] {
        let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let expected = (!is_good).then_some(RequestError::HostMismatch);
        assert_eq!(read(text.as_bytes()).err(), expected, "{text}");
    }
    let connect = "CONNECT one.test:80 HTTP/1.1\r\nHost: one.test:80\r\n\r\n";
    assert_eq!(head(connect).request.uri(), "one.test:80");
}

#[test]
fn requests_that_servers_disagree_about_are_refused() {
    for (name, request) in corpus::all() {
        let whole = read(request.as_bytes());
        let refused = whole.as_ref().is_err() || corpus::is_for_the_proxy(name);
        assert!(refused, "{name}: {whole:?}");
        let parts = read_in_parts(request.as_bytes());
        assert_eq!(whole.err(), parts.err(), "{name}");
    }
}

#[test]
fn bounds_are_kept_with_their_statuses() {
    let fields = "x: y\r\n".repeat(20);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let long = format!("GET / HTTP/1.1\r\nHost: a\r\nx: {}", "y".repeat(1024));
    let target = format!("GET /{}", "y".repeat(1024));
    let ended = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "y".repeat(1024));
    for (text, status) in [(many, 431), (long, 431), (target, 414), (ended, 414)] {
        let status = StatusCode::from_u16(status).unwrap();
        assert_eq!(read(text.as_bytes()).unwrap_err().status(), Some(status));
        assert_eq!(
            read_in_parts(text.as_bytes()).unwrap_err().status(),
            Some(status)
        );
    }
}

/// Lines that come near to being heads.
fn near_heads() -> impl Strategy<Value = Vec<u8>> {
    let parts = prop::sample::select(vec![
        &b"GET / HTTP/1.1\r\n"[..],
        b"POST /a<\xe9 HTTP/1.1\r\n",
        b"GET http://a/ HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"host:b\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: close, x\r\n",
        b"X-\xe9: a\r\n",
        b"x: \xe9\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b" ",
        b":",
        b"\0",
        b"A",
    ]);
    let line = prop_oneof![
        Just(b"GET / HTTP/1.1\r\nHost: a\r\n".to_vec()),
        Just(Vec::new()),
    ];
    (line, prop::collection::vec(parts, 0..8))
        .prop_map(|(line, parts)| [line, parts.concat()].concat())
}

proptest! {
    #[test]
    fn the_way_that_a_head_comes_makes_no_difference(text in near_heads()) {
        let (whole, parts) = (read(&text), read_in_parts(&text));
        match (&whole, &parts) {
            (Ok(Some(whole)), Ok(Some(parts))) => prop_assert_eq!(facts(whole), facts(parts)),
            // A line that is refused may be looked at when the end has come.
            (Err(_), Ok(None)) => {}
            _ => prop_assert_eq!(whole.as_ref().err(), parts.as_ref().err()),
        }
    }

    #[test]
    fn a_head_that_is_taken_has_one_host_and_one_end(text in near_heads()) {
        if let Ok(Some(head)) = read(&text) {
            let headers = head.request.headers();
            prop_assert!(headers.get_all("host").iter().count() <= 1);
            prop_assert!(headers.get_all("content-length").iter().count() <= 1);
            prop_assert!(!headers.contains_key("content-length")
                || !headers.contains_key("transfer-encoding"));
            prop_assert!(head.length <= text.len());
        }
    }

    #[test]
    fn requests_are_passed_on_as_they_came(text in near_heads(), cuts in 1..20_usize) {
        check_requests(&[&text[..], b"\r\n", &text].concat(), cuts);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&text);
        let _ = read_in_parts(&text);
    }
}
