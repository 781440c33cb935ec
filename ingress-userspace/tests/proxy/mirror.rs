//! Copies of requests, limits of open requests, and bandwidth.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use ingress_core::ir::{Bandwidth, Filter, Mirror, Part, RateLimit, Template, Variable};

use crate::rig::{Origin, Proxy, config, with_policy};

/// A mirror, and what it gets: heads with bodies.
fn mirror() -> (Origin, Receiver<(String, Vec<u8>)>) {
    let (sender, got) = channel();
    let origin = Origin::start(move |mut connection| {
        while let Some(head) = connection.read_head() {
            let body = connection.read_body(&head);
            let _ = sender.send((head.text, body));
            connection.write("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        }
    });
    (origin, got)
}

fn mirrored(origin: &Origin, mirror: &Origin, with_body: bool) -> Proxy {
    let text = format!("http://{}", mirror.address);
    let target = Template {
        parts: [Part::Text(text.into()), Part::Variable(Variable::Target)].into(),
    };
    let mirror = Arc::new(Mirror {
        target,
        host: Some("mirror.test".into()),
        with_body,
    });
    let config = config(&[("one.test", "/", &[origin.address])]);
    Proxy::start(with_policy(config, |policy| {
        policy.mirror = Some(Arc::clone(&mirror));
    }))
}

#[test]
fn mirror_gets_a_copy_with_the_body() {
    let origin = Origin::repeating();
    let (mirror, got) = mirror();
    let proxy = mirrored(&origin, &mirror, true);
    assert_eq!(proxy.get("one.test", "/a?b").status, 200);
    let (head, body) = got.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("host: mirror.test\r\n"), "{head}");
    assert_eq!(body, b"");
    let mut client = proxy.client();
    client.write("POST /c HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
    assert_eq!(client.read_reply().body, b"body");
    let (head, body) = got.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("POST /c HTTP/1.1\r\n"), "{head}");
    assert_eq!(body, b"body");
}

#[test]
fn mirror_gets_no_body_that_is_too_large() {
    let origin = Origin::repeating();
    let (mirror, got) = mirror();
    let proxy = mirrored(&origin, &mirror, true);
    let body = "x".repeat(100_000);
    let mut client = proxy.client();
    client.write(&format!(
        "POST /large HTTP/1.1\r\nHost: one.test\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    assert_eq!(client.read_reply().body.len(), body.len());
    assert_eq!(client.get("one.test", "/next").status, 200);
    let (head, _) = got.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("GET /next "), "{head}");
}

#[test]
fn requests_beyond_the_open_ones_are_refused_until_one_ends() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
            if head.text.starts_with("GET /slow ") {
                // The test has the rest sent by sending something.
                connection.read_body(&head);
                let mut more = String::new();
                let _ = std::io::BufRead::read_line(&mut connection.stream, &mut more);
            }
            connection.write("b");
        }
    });
    let limit = Arc::new(RateLimit {
        zone: "a/b".into(),
        rates: Box::default(),
        connections: 1,
        exempt: Box::default(),
        rate_status: 503,
        connections_status: 429,
    });
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start(with_policy(config, |policy| {
        policy.filters = [Filter::RateLimit(Arc::clone(&limit))].into();
    }));
    let mut slow = proxy.client();
    slow.write("GET /slow HTTP/1.1\r\nHost: one.test\r\n\r\n");
    slow.read_head().unwrap();
    assert_eq!(proxy.get("one.test", "/").status, 429);
    drop(slow);
    crate::rig::wait_until("the first request has ended", || {
        proxy.get("one.test", "/").status == 200
    });
}

#[test]
fn response_is_no_faster_than_its_bandwidth() {
    let origin = Origin::start(|mut connection| {
        while connection.read_head().is_some() {
            connection.write(&format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n{}",
                "x".repeat(60_000)
            ));
        }
    });
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start(with_policy(config, |policy| {
        policy.bandwidth = NonZeroU64::new(50_000).map(|bytes_per_second| Bandwidth {
            bytes_per_second,
            after: 20_000,
        });
    }));
    let begun = Instant::now();
    let reply = proxy.get("one.test", "/");
    assert_eq!(reply.body.len(), 60_000);
    // The last piece goes as soon as the ones before it are due.
    assert!(
        begun.elapsed() > Duration::from_millis(200),
        "{:?}",
        begun.elapsed()
    );
}
