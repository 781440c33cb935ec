//! Requests that servers disagree about: refused, and nothing of them reaches an endpoint.

use std::io::Read;

use ingress_wire::corpus::{BODIES, FIELDS, REQUESTS};

use crate::frames::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, RST_STREAM, Raw, fields};
use crate::rig::{Origin, Proxy, config};

fn proxy() -> (Proxy, Origin) {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("", "/", &[origin.address])]));
    (proxy, origin)
}

/// All that comes back, to the end of the connection.
fn answer(proxy: &Proxy, request: &str) -> String {
    let mut client = proxy.client();
    client.write(request);
    let mut bytes = Vec::new();
    let _ = client.stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

fn assert_refused(proxy: &Proxy, origin: &Origin, name: &str, request: &str) {
    let text = answer(proxy, request);
    assert!(text.starts_with("HTTP/1.1 400 "), "{name}: {text:?}");
    assert_eq!(text.matches("HTTP/1.").count(), 1, "{name}: {text:?}");
    assert_eq!(origin.connections(), 0, "{name} reached the endpoint");
}

#[test]
fn ambiguous_fields_are_refused() {
    let (proxy, origin) = proxy();
    for (name, fields) in FIELDS {
        let rest = "0\r\n\r\nX";
        let request =
            format!("POST / HTTP/1.1\r\nHost: one.test\r\n{fields}Connection: close\r\n\r\n{rest}");
        assert_refused(&proxy, &origin, name, &request);
    }
}

#[test]
fn malformed_requests_are_refused() {
    let (proxy, origin) = proxy();
    for (name, request) in REQUESTS {
        let request = request.replacen("\r\nHost", "\r\nConnection: close\r\nHost", 1);
        assert_refused(&proxy, &origin, name, &request);
    }
}

#[test]
fn a_refused_request_is_the_last_of_its_connection() {
    let (proxy, origin) = proxy();
    let good = "GET /smuggled HTTP/1.1\r\nHost: one.test\r\n\r\n";
    let bad = "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_refused(&proxy, &origin, "pipelined", &format!("{bad}{good}"));
}

#[test]
fn pipelined_requests_are_checked_too() {
    let (proxy, origin) = proxy();
    let bad = "GET /smuggled HTTP/1.1\r\nHost: one.test\r\nX: y\n\r\n";
    for (name, good) in [
        ("no body", "GET / HTTP/1.1\r\nHost: one.test\r\n\r\n"),
        (
            "a length",
            "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 3\r\n\r\na\nb",
        ),
        (
            "chunks",
            "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n\
             3;x=y\r\na\nb\r\n0\r\nT: u\r\n\r\n",
        ),
    ] {
        let text = answer(&proxy, &format!("{good}{good}{bad}"));
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 2, "{name}: {text}");
        assert_eq!(text.matches("HTTP/1.1 400 ").count(), 1, "{name}: {text}");
        assert!(!text.contains("/smuggled"), "{name}: {text}");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn chunks_that_are_none_break_the_request_off() {
    for (name, chunk) in BODIES {
        let (proxy, _origin) = proxy();
        let good = "GET /smuggled HTTP/1.1\r\nHost: one.test\r\n\r\n";
        let text = answer(
            &proxy,
            &format!(
                "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}{good}"
            ),
        );
        assert!(!text.contains("/smuggled"), "{name}: {text}");
        assert!(!text.contains(" 200 "), "{name}: {text}");
    }
}

#[test]
fn an_upgrade_that_is_refused_hides_nothing() {
    let (proxy, origin) = proxy();
    let upgrade = "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    let bad = "GET /smuggled HTTP/1.1\r\nHost: one.test\r\nX: y\n\r\n";
    for version in ["HTTP/1.1", "HTTP/1.0\r\nConnection: keep-alive"] {
        let request = format!("{upgrade}{bad}").replacen("HTTP/1.1", version, 1);
        let text = answer(&proxy, &request);
        assert_eq!(
            text.matches("HTTP/1.").count(),
            2,
            "one answer, and the request in it: {text}"
        );
        assert!(text.contains("connection: close"), "{text}");
        assert!(!text.contains("/smuggled"), "{text}");
    }
    assert_eq!(origin.connections(), 1);
}

/// Heads of HTTP/2 requests: fields that replace those of a good one, or come after them.
const HTTP_2: &[(&str, &[(&str, &str)])] = &[
    (
        "method with a request in it",
        &[(":method", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET")],
    ),
    ("method with a space", &[(":method", "GET /")]),
    ("empty method", &[(":method", "")]),
    ("path with CRLF", &[(":path", "/ HTTP/1.1\r\nX: y")]),
    ("path with a space", &[(":path", "/ HTTP/1.1")]),
    ("empty path", &[(":path", "")]),
    ("path without a slash", &[(":path", "x")]),
    ("authority with CRLF", &[(":authority", "one.test\r\nX: y")]),
    (
        "authority with user information",
        &[(":authority", "user@one.test")],
    ),
    ("authority with a path", &[(":authority", "one.test/x")]),
    ("unknown pseudo-header", &[(":x", "y")]),
    ("pseudo-header of a response", &[(":status", "200")]),
    (
        "value with CRLF",
        &[("x", "y\r\nTransfer-Encoding: chunked")],
    ),
    ("value with LF", &[("x", "y\nz")]),
    ("value with NUL", &[("x", "y\0z")]),
    ("name with CRLF", &[("x: y\r\nz", "a")]),
    ("name with a space", &[("x y", "a")]),
    ("name with a colon", &[("x:", "a")]),
    ("capital name", &[("X", "y")]),
    ("empty name", &[("", "y")]),
    ("transfer-encoding", &[("transfer-encoding", "chunked")]),
    ("connection", &[("connection", "close")]),
    ("proxy-connection", &[("proxy-connection", "close")]),
    ("keep-alive", &[("keep-alive", "1")]),
    ("upgrade", &[("upgrade", "websocket")]),
    ("te that is not trailers", &[("te", "gzip")]),
    ("length of nothing", &[("content-length", "5")]),
    ("signed length", &[("content-length", "+0")]),
    (
        "two lengths",
        &[("content-length", "0"), ("content-length", "0")],
    ),
    ("another host", &[("host", "two.test")]),
    ("two hosts", &[("host", "one.test"), ("host", "one.test")]),
];

/// The status of the answer, or `None` for a stream or connection error.
fn http_2_status(proxy: &Proxy, head: &[(&str, &str)]) -> Option<Vec<u8>> {
    let mut raw = Raw::connect(proxy.http);
    raw.send(HEADERS, END_HEADERS | END_STREAM, 1, &fields(head));
    loop {
        let frame = raw.read()?;
        match frame.kind {
            HEADERS => return Some(frame.payload),
            RST_STREAM | GOAWAY => return None,
            _ => {}
        }
    }
}

#[test]
fn http_2_heads_that_mean_something_else_in_http_1_are_refused() {
    let (proxy, origin) = proxy();
    let good = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "one.test"),
        (":path", "/"),
    ];
    for (name, odd) in HTTP_2 {
        let mut head: Vec<_> = good
            .iter()
            .copied()
            .filter(|(field, _)| odd.iter().all(|(other, _)| field != other))
            .collect();
        let (pseudo, plain): (Vec<_>, Vec<_>) = odd
            .iter()
            .copied()
            .partition(|(name, _)| name.starts_with(':'));
        head.extend(pseudo);
        head.extend(plain);
        // 400 is in the static table of HPACK (RFC 7541 appendix A).
        let status = http_2_status(&proxy, &head);
        assert!(
            status.as_ref().is_none_or(|head| head[0] == 0x8c),
            "{name}: {status:?}"
        );
        assert_eq!(origin.connections(), 0, "{name} reached the endpoint");
    }
    let twice = [good[0], good[0], good[1], good[2], good[3]];
    let late = [good[0], good[1], good[2], ("x", "y"), good[3]];
    let without_path = [good[0], good[1], good[2]];
    for head in [&twice[..], &late[..], &without_path[..]] {
        assert_eq!(http_2_status(&proxy, head), None, "{head:?}");
    }
    assert_eq!(origin.connections(), 0);
    assert_eq!(
        http_2_status(&proxy, &good).unwrap()[0],
        0x88,
        "a good one is 200"
    );
}
