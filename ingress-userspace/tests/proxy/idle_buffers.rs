//! Idle connections, which keep no buffers, and what clients notice of that: nothing.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use ingress_core::ir::HostPattern;
use ingress_userspace::proxy::Timeouts;

use crate::rig::{Options, Origin, Proxy, config, streaming, wait_until};

/// A proxy whose connections are idle soon.
fn proxy(origin: &Origin) -> Proxy {
    let timeouts = Timeouts {
        buffers_idle: Duration::from_millis(1),
        ..Timeouts::default()
    };
    let config = streaming(config(&[("one.test", "/", &[origin.address])]));
    Proxy::start_with(config, Options::timeouts(timeouts))
}

fn wait_until_asleep(proxy: &Proxy, count: u64) {
    wait_until("connections are asleep", || {
        proxy.snapshot().host.connections_idle_unbuffered == count
    });
}

#[test]
fn idle_connection_serves_the_next_request() {
    let origin = Origin::echo("origin");
    let proxy = proxy(&origin);
    let mut client = proxy.client();
    for round in 0..3 {
        let reply = client.get("one.test", "/");
        assert_eq!(reply.status, 200, "{round}");
        wait_until_asleep(&proxy, 1);
    }
    // Empty lines before a request line mean nothing (RFC 9112 §2.2).
    client.write("\r\n");
    assert_eq!(client.get("one.test", "/").status, 200);
    wait_until_asleep(&proxy, 1);
    drop(client);
    wait_until("it is gone", || {
        let host = proxy.snapshot().host;
        host.connections_open == 0 && host.connections_idle_unbuffered == 0
    });
    assert!(
        proxy
            .metrics()
            .contains("sluice_connections_idle_unbuffered")
    );
}

#[test]
fn idle_tls_connection_serves_the_next_request() {
    let origin = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\norigin");
    let proxy = proxy(&origin);
    let secret = crate::tls::secret("one", "one.test");
    let mut config = config(&[("one.test", "/", &[origin.address])]);
    let host = HostPattern::parse("one.test").unwrap();
    config.certificates.insert(host, Arc::clone(&secret));
    proxy.publish(config);
    let mut client = crate::tls::connect(&proxy, &secret);
    for round in 0..3 {
        let request = b"GET / HTTP/1.1\r\nHost: one.test\r\n\r\n";
        client.write_all(request).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\norigin") {
            let mut some = [0; 4096];
            let count = client.read(&mut some).unwrap();
            assert!(count > 0, "{round}");
            answer.extend_from_slice(&some[..count]);
        }
        wait_until_asleep(&proxy, 1);
    }
}

#[test]
fn a_request_that_comes_in_parts_is_not_cut() {
    let origin = Origin::echo("origin");
    let proxy = proxy(&origin);
    let mut sleeper = proxy.client();
    assert_eq!(sleeper.get("one.test", "/").status, 200);
    let mut slow = proxy.client();
    for part in ["GET / HT", "TP/1.1\r\n", "Host: one", ".test\r", "\n\r"] {
        slow.write(part);
        // A connection that sleeps while this one does not.
        wait_until_asleep(&proxy, 1);
        assert_eq!(sleeper.get("one.test", "/").status, 200);
    }
    slow.write("\n");
    assert_eq!(slow.read_reply().status, 200);
}

#[test]
fn rest_of_a_body_is_not_read_as_a_request() {
    let origin = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            // Before the body has come.
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = proxy(&origin);
    let mut sleeper = proxy.client();
    let mut client = proxy.client();
    let rest = "GET /hidden HTTP/1.1\r\nHost: one.test\r\n\r\n";
    client.write(&format!(
        "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {}\r\n\r\n",
        rest.len()
    ));
    assert_eq!(client.read_reply().status, 200);
    assert_eq!(sleeper.get("one.test", "/").status, 200);
    wait_until_asleep(&proxy, 1);
    client.write(rest);
    assert!(client.is_closed(), "it is not answered");
    assert_eq!(proxy.snapshot().host.requests, 2);
}
