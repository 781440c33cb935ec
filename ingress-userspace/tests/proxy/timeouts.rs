//! Timeouts of routes: of endpoints, of clients, and of a whole request.

use std::num::NonZeroU32;
use std::thread;
use std::time::{Duration, Instant};

use ingress_core::ir::{Config, RequestBuffering, RouteTimeouts};

use crate::balancing::config_with;
use crate::rig::{Origin, Proxy, with_policy};

/// A configuration of one route, with these timeouts for its backend.
fn waiting(origin: &Origin, timeouts: RouteTimeouts) -> Config {
    with_policy(config_with(&[origin.address], |_| {}), |policy| {
        policy.timeouts = timeouts;
        policy.request_buffering = RequestBuffering::Off;
    })
}

fn read(seconds: u32) -> RouteTimeouts {
    RouteTimeouts {
        read: NonZeroU32::new(seconds),
        ..RouteTimeouts::default()
    }
}

#[test]
fn silent_endpoint_times_out() {
    let silent = Origin::start(|mut connection| while connection.read_head().is_some() {});
    let proxy = Proxy::start(waiting(&silent, read(1)));
    assert_eq!(proxy.get("one.test", "/").status, 504);
}

#[test]
fn slow_client_does_not_use_up_the_endpoints_timeout() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(waiting(&origin, read(1)));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 8\r\n\r\nhalf");
    thread::sleep(Duration::from_secs(2));
    client.write("half");
    assert_eq!(client.read_reply().status, 200);

    let send = RouteTimeouts {
        send: NonZeroU32::new(1),
        ..RouteTimeouts::default()
    };
    proxy.publish(waiting(&origin, send));
    let mut slow = proxy.client();
    slow.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 8\r\n\r\nhalf");
    assert_eq!(slow.read_reply().status, 408);
}

#[test]
fn endpoint_timeout_starts_after_the_request_body() {
    let silent = Origin::start(|mut connection| {
        let mut all = Vec::new();
        let _ = std::io::Read::read_to_end(&mut connection.stream, &mut all);
    });
    let proxy = Proxy::start(waiting(&silent, read(1)));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 8\r\n\r\nhalf");
    thread::sleep(Duration::from_secs(2));
    client.write("half");
    let begun = Instant::now();
    assert_eq!(client.read_reply().status, 504);
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn request_timeout_ends_a_response_that_still_moves() {
    let dripping = Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            connection.read_body(&head);
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
            for _ in 0..100 {
                if std::io::Write::write_all(connection.stream.get_mut(), b"x").is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let silent = Origin::start(|mut connection| while connection.read_head().is_some() {});
    let request = RouteTimeouts {
        request: NonZeroU32::new(1),
        ..RouteTimeouts::default()
    };
    let proxy = Proxy::start(waiting(&silent, request));
    assert_eq!(proxy.get("one.test", "/").status, 504);
    let proxy = Proxy::start(waiting(&dripping, request));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    let begun = Instant::now();
    let head = client.read_head().expect("it begins");
    assert_eq!(head.status(), 200);
    let mut body = Vec::new();
    std::io::Read::read_to_end(&mut client.stream, &mut body).expect("it is closed");
    assert!((5..50).contains(&body.len()), "{}", body.len());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn endpoint_that_reads_nothing_is_a_504() {
    let deaf = Origin::start(|_connection| thread::sleep(Duration::from_secs(20)));
    let send = RouteTimeouts {
        send: NonZeroU32::new(1),
        ..RouteTimeouts::default()
    };
    let proxy = Proxy::start(waiting(&deaf, send));
    let mut client = proxy.client();
    let length = 64 << 20;
    client.write(&format!(
        "POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: {length}\r\n\r\n"
    ));
    let mut stream = client
        .stream
        .get_ref()
        .try_clone()
        .expect("one more descriptor");
    // Most of it stays here.
    thread::spawn(move || std::io::Write::write_all(&mut stream, &vec![b'x'; length]));
    assert_eq!(client.read_reply().status, 504);
}
