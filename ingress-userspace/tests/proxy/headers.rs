//! Which header fields an endpoint and a client get to see.

use crate::rig::{Origin, Proxy, Reply, config};

fn echoed(fields: &str) -> (Proxy, Reply) {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write(&format!(
        "GET /p HTTP/1.1\r\nHost: one.test:8080\r\n{fields}\r\n"
    ));
    let reply = client.read_reply();
    assert_eq!(reply.status, 200);
    (proxy, reply)
}

fn answered(head: &'static str) -> Reply {
    let origin = Origin::fixed(head);
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    proxy.get("one.test", "/")
}

#[test]
fn endpoint_sees_the_client_in_forwarded_fields() {
    let (proxy, reply) = echoed("User-Agent: test\r\n");
    let port = proxy.http.port().to_string();
    for (name, value) in [
        ("host", "one.test:8080"),
        ("user-agent", "test"),
        ("x-real-ip", "127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "one.test:8080"),
        ("x-forwarded-port", &port),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-scheme", "http"),
        ("x-scheme", "http"),
    ] {
        assert_eq!(reply.seen(name), Some(value), "{name}");
    }
    assert_eq!(reply.seen("x-original-forwarded-for"), None);
    let id = reply.seen("x-request-id").unwrap();
    assert!(
        id.len() == 32 && id.bytes().all(|digit| digit.is_ascii_hexdigit()),
        "{id}"
    );
}

#[test]
fn request_ids_differ() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    let id = |reply: Reply| reply.seen("x-request-id").unwrap().to_owned();
    let ids = [(); 3].map(|()| id(client.get("one.test", "/")));
    assert!(
        ids[0] != ids[1] && ids[1] != ids[2] && ids[0] != ids[2],
        "{ids:?}"
    );
}

#[test]
fn a_request_id_of_the_client_is_kept() {
    let (_, reply) = echoed("X-Request-ID: mine\r\n");
    assert_eq!(reply.seen("x-request-id"), Some("mine"));
}

#[test]
fn client_supplied_forwarding_fields_are_replaced() {
    let (_, reply) = echoed(
        "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Real-IP: 6.6.6.6\r\n\
         X-Forwarded-Host: evil.test\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
         X-Forwarded-Scheme: https\r\nX-Scheme: https\r\nX-Forwarded-Prefix: /evil\r\n\
         X-Original-Forwarded-For: 8.8.8.8\r\nForwarded: for=6.6.6.6\r\nProxy: http://evil/\r\n\
         X_Forwarded_For: 6.6.6.6\r\n",
    );
    assert_eq!(reply.seen("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(reply.seen("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(reply.seen("x-forwarded-host"), Some("one.test:8080"));
    assert_eq!(reply.seen("x-forwarded-proto"), Some("http"));
    assert_eq!(reply.seen("x-scheme"), Some("http"));
    assert_eq!(
        reply.seen("x-original-forwarded-for"),
        Some("6.6.6.6, 7.7.7.7")
    );
    assert_eq!(reply.seen("x-original-forwarded-host"), Some("evil.test"));
    for gone in [
        "forwarded",
        "proxy",
        "x_forwarded_for",
        "x-forwarded-prefix",
    ] {
        assert_eq!(reply.seen(gone), None, "{gone}");
    }
}

#[test]
fn hop_by_hop_fields_of_a_request_end_here() {
    let (_, reply) = echoed(
        "Connection: keep-alive, X-Mine, X-Forwarded-For\r\nConnection: X-Other\r\nX-Mine: 1\r\n\
         X-Other: 2\r\nX-Kept: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: gzip\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
    );
    for gone in [
        "connection",
        "x-mine",
        "x-other",
        "keep-alive",
        "proxy-connection",
        "te",
        "upgrade",
        "http2-settings",
    ] {
        assert_eq!(reply.seen(gone), None, "{gone}");
    }
    assert_eq!(reply.seen("x-kept"), Some("3"));
    assert_eq!(reply.seen("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn a_client_that_takes_trailers_says_so_to_the_origin() {
    let (_, reply) = echoed("TE: gzip, trailers;q=0.5\r\nConnection: te\r\n");
    assert_eq!(reply.seen("te"), Some("trailers"));
    assert_eq!(reply.seen("connection"), Some("te"));
}

#[test]
fn hop_by_hop_fields_of_a_response_end_here() {
    let reply = answered(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: X-Mine, keep-alive\r\nX-Mine: 1\r\n\
         Keep-Alive: timeout=5\r\nUpgrade: h2c\r\nX-Kept: 2\r\n\r\n",
    );
    for gone in ["connection", "x-mine", "keep-alive", "upgrade"] {
        assert_eq!(reply.head.field(gone), None, "{gone}");
    }
    assert_eq!(reply.head.field("x-kept"), Some("2"));
}

#[test]
fn server_of_the_origin_is_hidden_and_its_date_kept() {
    let reply = answered(
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nServer: origin\r\n\
         Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\r\n",
    );
    assert_eq!(reply.head.field("server"), Some("sluice"));
    assert_eq!(
        reply.head.field("date"),
        Some("Thu, 01 Jan 1970 00:00:00 GMT")
    );
}

#[test]
fn server_and_date_are_added_where_the_origin_is_silent() {
    let reply = answered("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(reply.head.field("server"), Some("sluice"));
    assert!(reply.head.field("date").is_some());
}

#[test]
fn an_http_1_0_origin_does_not_downgrade_the_client() {
    let reply =
        answered("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok");
    assert!(
        reply.head.text.starts_with("HTTP/1.1 200 OK\r\n"),
        "{}",
        reply.head.text
    );
    assert_eq!(reply.text(), "ok");
}

#[test]
fn the_context_of_a_trace_is_passed_on_as_it_is() {
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let (_, reply) = echoed(&format!(
        "Traceparent: {parent}\r\nTracestate: a=1,b=2\r\nBaggage: k=v\r\n"
    ));
    assert_eq!(reply.seen("traceparent"), Some(parent));
    assert_eq!(reply.seen("tracestate"), Some("a=1,b=2"));
    assert_eq!(reply.seen("baggage"), Some("k=v"));
}
