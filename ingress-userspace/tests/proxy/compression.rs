//! Responses that are compressed on their way.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::mpsc::channel;

use flate2::read::GzDecoder;
use ingress_core::ir::{Compression, CompressionMethod, Config};

use crate::rig::{Origin, Proxy, Reply, config, with_policy};

fn compressing(config: Config) -> Config {
    let method = CompressionMethod {
        level: 1,
        bytes_min: 100,
        types: ["text/plain".into()].into(),
    };
    let compression = Arc::new(Compression {
        gzip: Some(method.clone()),
        brotli: Some(method),
        zstd: None,
    });
    with_policy(config, |policy| {
        policy.compression = Some(Arc::clone(&compression));
    })
}

fn get(proxy: &Proxy, accepted: &str) -> Reply {
    let mut client = proxy.client();
    client.write(&format!(
        "GET / HTTP/1.1\r\nHost: one.test\r\nAccept-Encoding: {accepted}\r\n\r\n"
    ));
    client.read_reply()
}

#[test]
fn body_of_a_listed_type_is_compressed_for_clients_that_accept_it() {
    let body = "all work and no play ".repeat(10_000);
    let text = body.clone();
    let origin = Origin::start(move |mut connection| {
        while connection.read_head().is_some() {
            connection.write(&format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: {}\r\n\r\n{text}",
                text.len()
            ));
        }
    });
    let proxy = Proxy::start(compressing(config(&[("one.test", "/", &[origin.address])])));
    let plain = get(&proxy, "identity");
    assert_eq!(plain.head.field("content-encoding"), None);
    assert_eq!(plain.head.field("vary"), Some("Accept-Encoding"));
    assert_eq!(plain.body, body.as_bytes());
    let reply = get(&proxy, "gzip");
    assert_eq!(reply.head.field("content-encoding"), Some("gzip"));
    assert_eq!(reply.head.field("content-length"), None);
    assert_eq!(reply.head.field("etag"), Some("W/\"a\""));
    let mut decoded = String::new();
    GzDecoder::new(&reply.body[..])
        .read_to_string(&mut decoded)
        .unwrap();
    assert_eq!(decoded, body);
    assert!(reply.body.len() < body.len() / 10);
    assert_eq!(
        get(&proxy, "gzip, br").head.field("content-encoding"),
        Some("br")
    );
    assert_eq!(origin.connections(), 1, "connections are kept");
}

#[test]
fn responses_that_may_not_be_compressed_are_left_alone() {
    for head in [
        "Content-Type: text/plain\r\nContent-Length: 3\r\n\r\nabc",
        "Content-Type: image/png\r\nContent-Length: 200\r\n\r\n",
        "Content-Type: text/plain\r\nContent-Encoding: br\r\nContent-Length: 200\r\n\r\n",
    ] {
        let origin = Origin::start(move |mut connection| {
            while connection.read_head().is_some() {
                let rest = if head.ends_with("abc") {
                    String::new()
                } else {
                    "x".repeat(200)
                };
                connection.write(&format!("HTTP/1.1 200 OK\r\n{head}{rest}"));
            }
        });
        let proxy = Proxy::start(compressing(config(&[("one.test", "/", &[origin.address])])));
        let reply = get(&proxy, "gzip");
        assert_ne!(reply.head.field("content-encoding"), Some("gzip"), "{head}");
        assert!(reply.head.field("content-length").is_some(), "{head}");
    }
}

#[test]
fn events_of_a_slow_stream_arrive_as_they_come() {
    let (go_on, next) = channel::<()>();
    let next = std::sync::Mutex::new(next);
    let origin = Origin::start(move |mut connection| {
        connection.read_head();
        connection.write(
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        connection.write("6\r\nfirst\n\r\n");
        next.lock().unwrap().recv().unwrap();
        connection.write("7\r\nsecond\n\r\n0\r\n\r\n");
    });
    let proxy = Proxy::start(compressing(config(&[("one.test", "/", &[origin.address])])));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.read_head().unwrap();
    assert_eq!(head.field("content-encoding"), Some("gzip"));
    let mut compressed = Vec::new();
    let mut text = [0; 6];
    while GzDecoder::new(&compressed[..])
        .read_exact(&mut text)
        .is_err()
    {
        compressed.extend(client.read_chunk().unwrap());
    }
    assert_eq!(&text, b"first\n");
    go_on.send(()).unwrap();
    while let Some(chunk) = client.read_chunk().filter(|chunk| !chunk.is_empty()) {
        compressed.extend(chunk);
    }
    let mut all = String::new();
    GzDecoder::new(&compressed[..])
        .read_to_string(&mut all)
        .unwrap();
    assert_eq!(all, "first\nsecond\n");
}
