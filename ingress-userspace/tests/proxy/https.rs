//! TLS to endpoints.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;

use ingress_core::ir::UpstreamProtocol;
use rustls::{ServerConnection, StreamOwned};

use crate::grpc::{server_config, speaking};
use crate::rig::{Origin, Proxy};

/// Answers each request with its head, over TLS, and agrees to any upgrade.
pub(crate) fn origin() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let config = Arc::new(server_config(b"http/1.1"));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(tls, stream.unwrap());
            thread::spawn(move || {
                let mut bytes = vec![0; 4096];
                let mut text = Vec::new();
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    text.extend_from_slice(&bytes[..count]);
                    if !text.ends_with(b"\r\n\r\n") {
                        continue;
                    }
                    let head = String::from_utf8(std::mem::take(&mut text)).unwrap();
                    let status = if head.to_ascii_lowercase().contains("upgrade: x") {
                        "101 Switching Protocols\r\nUpgrade: x"
                    } else {
                        "200 OK"
                    };
                    let length = head.len();
                    let answer =
                        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{head}");
                    stream.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn endpoints_are_reached_over_tls_and_connections_kept() {
    let proxy = Proxy::start(speaking(UpstreamProtocol::Https, &[origin()]));
    let mut client = proxy.client();
    for _ in 0..5 {
        let reply = client.get("one.test", "/a");
        assert_eq!(reply.status, 200);
        assert!(reply.text().starts_with("GET /a HTTP/1.1\r\n"));
        assert_eq!(reply.seen("host"), Some("one.test"));
    }
    let counted = proxy.snapshot();
    assert_eq!((counted.upstream_connects, counted.upstream_reuses), (1, 4));
}

#[test]
fn tunnels_go_over_tls_too() {
    let proxy = Proxy::start(speaking(UpstreamProtocol::Https, &[origin()]));
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 101);
    let seen = client.read_head().unwrap().text;
    assert!(
        seen.contains("Upgrade: x"),
        "as the client wrote it: {seen}"
    );
    client.write("\r\n\r\n");
    assert_eq!(client.read_reply().text(), "\r\n\r\n");
}

#[test]
fn an_endpoint_without_tls_is_a_failed_connection() {
    let plain = Origin::fixed("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    for protocol in [UpstreamProtocol::Https, UpstreamProtocol::Http2Tls] {
        let proxy = Proxy::start(speaking(protocol, &[plain.address]));
        assert_eq!(proxy.get("one.test", "/").status, 502);
        assert_eq!(proxy.snapshot().upstream_connect_failures, 1);
    }
    let proxy = Proxy::start(speaking(UpstreamProtocol::Http2Tls, &[origin()]));
    assert_eq!(proxy.get("one.test", "/").status, 502, "no ALPN in common");
}
