//! Connections to endpoints: kept, used again, and never a client's problem.

use std::sync::mpsc;

use crate::rig::{Client, Origin, Proxy, config, streaming};

#[test]
fn requests_share_a_connection() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for _ in 0..50 {
        assert_eq!(client.get("one.test", "/").status, 200);
        assert_eq!(proxy.get("one.test", "/").status, 200);
    }
    assert_eq!(origin.connections(), 1);
    let counted = proxy.snapshot();
    assert_eq!(
        (counted.upstream_connects, counted.upstream_reuses),
        (1, 99)
    );
    assert_eq!(
        (counted.host.requests, counted.host.responses_2xx),
        (100, 100)
    );
    assert_eq!(counted.host.connections_accepted, 51);
}

#[test]
fn a_connection_is_used_again_after_every_kind_of_body() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            connection.read_body(&head);
            connection.write(if head.text.contains("/chunked") {
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
            } else if head.text.contains("/none") {
                "HTTP/1.1 304 Not Modified\r\n\r\n"
            } else {
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            });
        }
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for path in [
        "/chunked", "/none", "/length", "/chunked", "/none", "/length",
    ] {
        client.get("one.test", path);
        client.write(&format!(
            "POST {path} HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody"
        ));
        client.read_reply();
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn an_origin_that_closes_after_each_answer_is_never_noticed() {
    let origin = Origin::start(|mut connection| {
        if connection.read_head().is_some() {
            // No `Connection: close`: the proxy has every reason to keep the connection.
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for number in 0..500 {
        assert_eq!(client.get("one.test", "/").status, 200, "request {number}");
    }
    assert_eq!(origin.connections(), 500);
}

#[test]
fn an_origin_that_closes_before_a_post_is_never_noticed() {
    let (closed, is_closed) = mpsc::channel();
    let closed = std::sync::Mutex::new(closed);
    let origin = Origin::start(move |mut connection| {
        if let Some(head) = connection.read_head() {
            connection.read_body(&head);
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
        drop(connection);
        closed.lock().unwrap().send(()).unwrap();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    for number in 0..300 {
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
        assert_eq!(client.read_reply().status, 200, "request {number}");
        // A request that must not be sent twice is safe once the close is on its way.
        is_closed.recv().unwrap();
    }
}

/// Answers the first request of each connection and hangs up on the second.
fn fickle() -> Origin {
    Origin::start(|mut connection| {
        let head = connection.read_head().unwrap();
        connection.read_body(&head);
        let body = head.text;
        let length = body.len();
        connection.write(&format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        connection.read_head();
    })
}

#[test]
fn a_request_that_may_be_repeated_is_sent_again_as_it_was() {
    let origin = fickle();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    let head = "GET /a?b=c HTTP/1.1\r\nHost: one.test\r\nX-Request-ID: 1\r\nX-A: 1\r\nX-A: 2:3\r\nX-B:\r\n\r\n";
    let mut ask = || {
        client.write(head);
        let reply = client.read_reply();
        assert_eq!(reply.status, 200);
        let mut lines: Vec<_> = reply.text().lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let first = ask();
    assert_eq!(ask(), first);
    assert_eq!(proxy.snapshot().upstream_replays, 1);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_request_that_may_have_been_executed_is_not_repeated() {
    for request in [
        "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody",
        "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 0\r\n\r\n",
        "PUT / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let origin = fickle();
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        let mut client = proxy.client();
        assert_eq!(client.get("one.test", "/").status, 200);
        client.write(request);
        assert_eq!(client.read_reply().status, 502, "{request}");
        assert_eq!(origin.connections(), 1, "{request}");
    }
}

#[test]
fn an_origin_that_answers_early_and_keeps_reading_does_no_harm() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 413 Payload Too Large\r\nContent-Length: 0\r\n\r\n");
        connection.read_head();
    });
    let proxy = Proxy::start(streaming(config(&[("one.test", "/", &[origin.address])])));
    for _ in 0..3 {
        let mut client = proxy.client();
        client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 100\r\n\r\nsome");
        assert_eq!(client.read_reply().status, 413);
    }
    // The request was not read to its end: its connection is no good for another.
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_client_that_goes_away_cancels_its_request() {
    let (cancelled, is_cancelled) = mpsc::channel();
    let (asked, is_asked) = mpsc::channel();
    let channels = std::sync::Mutex::new((asked, cancelled));
    let origin = Origin::start(move |mut connection: Client| {
        connection.read_head();
        channels.lock().unwrap().0.send(()).unwrap();
        assert!(connection.read_head().is_none());
        channels.lock().unwrap().1.send(()).unwrap();
    });
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    is_asked.recv_timeout(crate::rig::PATIENCE).unwrap();
    drop(client);
    is_cancelled
        .recv_timeout(crate::rig::PATIENCE)
        .expect("the origin's connection is closed");
}
