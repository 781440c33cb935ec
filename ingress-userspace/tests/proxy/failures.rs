//! What clients get when there is nobody to answer them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use ingress_core::ir::{Config, HostPattern, HostRules, Target};
use ingress_userspace::proxy::{Dial, ListenError, Timeouts, listen};
use socket2::{Domain, Socket, Type};

use crate::rig::{Options, Origin, Proxy, Reply, config, dead, rule, streaming, wait_until};

fn assert_answer(reply: &Reply, status: u16, text: &str) {
    assert_eq!((reply.status, reply.text()), (status, text));
    assert_eq!(
        reply.head.field("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(reply.head.field("server"), Some("sluice"));
}

fn short() -> Options {
    let brief = Duration::from_millis(100);
    let timeouts = Timeouts {
        upstream_send: brief,
        response_head: brief,
        body_idle: brief,
        upstream_connect: brief,
        request_head: brief,
        tls_handshake: brief,
        downstream_write: brief,
        ..Timeouts::default()
    };
    Options::timeouts(timeouts)
}

#[test]
fn no_route_is_404() {
    let proxy = Proxy::start(config(&[("one.test", "/a", &[])]));
    let text = "404 no route for this host and path\n";
    assert_answer(&proxy.get("one.test", "/b"), 404, text);
    assert_answer(&proxy.get("other.test", "/a"), 404, text);
}

#[test]
fn no_endpoint_is_503() {
    let proxy = Proxy::start(config(&[("one.test", "/", &[])]));
    assert_answer(
        &proxy.get("one.test", "/"),
        503,
        "503 no endpoint is ready\n",
    );
}

#[test]
fn an_unavailable_target_is_503() {
    let rules = HostRules {
        rules: vec![Arc::new(rule("/", Target::Unavailable))],
        ..HostRules::default()
    };
    let hosts = [(HostPattern::Any, Arc::new(rules))].into_iter().collect();
    let proxy = Proxy::start(Config {
        hosts,
        ..Config::default()
    });
    assert_answer(
        &proxy.get("one.test", "/"),
        503,
        "503 no endpoint is ready\n",
    );
}

#[test]
fn a_refused_connection_is_502() {
    let proxy = Proxy::start(config(&[("one.test", "/", &[dead()])]));
    assert_answer(&proxy.get("one.test", "/"), 502, "502 bad gateway\n");
    assert_eq!(proxy.snapshot().upstream_connect_failures, 1);
}

#[test]
fn an_origin_that_closes_or_talks_nonsense_is_502() {
    let closing = Origin::start(|mut connection| drop(connection.read_head()));
    let babbling = Origin::fixed("once upon a time\r\n\r\n");
    let switching = Origin::fixed("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n");
    for origin in [closing, babbling, switching] {
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        assert_answer(&proxy.get("one.test", "/"), 502, "502 bad gateway\n");
    }
}

#[test]
fn a_silent_origin_is_504() {
    let origin = Origin::start(|mut connection| while connection.read_head().is_some() {});
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), short());
    assert_answer(&proxy.get("one.test", "/"), 504, "504 gateway timeout\n");
}

#[test]
fn an_origin_that_does_not_accept_is_504() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // A backlog of 0 has room for one; the kernel ignores who comes after that.
    let _filling = TcpStream::connect(address).unwrap();
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[address])]), short());
    assert_answer(&proxy.get("one.test", "/"), 504, "504 gateway timeout\n");
}

#[test]
fn a_client_that_does_not_send_its_body_is_408() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start_with(
        streaming(config(&[("one.test", "/", &[origin.address])])),
        short(),
    );
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 9\r\n\r\nhalf");
    assert_answer(&client.read_reply(), 408, "408 request timeout\n");
}

#[test]
fn a_malformed_request_body_is_400() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\nnone\r\n");
    assert_answer(&client.read_reply(), 400, "400 bad request\n");
}

#[test]
fn clients_that_send_no_head_in_time_are_closed() {
    let origin = Origin::echo("origin");
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), short());
    let (mut silent, mut slow, mut idle) = (proxy.client(), proxy.client(), proxy.client());
    slow.write("GET / HTTP/1.1\r\nHost: one.");
    assert_eq!(idle.get("one.test", "/").status, 200);
    assert!(silent.is_closed());
    assert!(slow.is_closed());
    assert!(idle.is_closed());
    let mut handshake = crate::rig::Client::connect(proxy.https);
    assert!(handshake.is_closed());
    wait_until("it is counted", || {
        proxy.snapshot().host.tls_handshake_failures == 1
    });
}

#[test]
fn a_client_that_does_not_read_is_closed() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        let some = "x".repeat(1 << 20);
        for _ in 0..1000 {
            connection.write(&some);
        }
    });
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), short());
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    wait_until("the connection is closed", || {
        proxy.snapshot().host.connections_open == 0
    });
}

#[test]
fn an_origin_that_stops_within_a_body_truncates_it() {
    let origin = Origin::start(|mut connection| {
        connection.read_head();
        connection.write("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        // Stays open and says no more.
        connection.read_head();
    });
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), short());
    let mut client = proxy.client();
    client.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert_eq!(client.read_head().unwrap().status(), 200);
    let mut rest = Vec::new();
    let _ = std::io::Read::read_to_end(&mut client.stream, &mut rest);
    assert_eq!(rest, b"half");
}

/// Panics for the first socket.
struct PanickingDial(std::sync::atomic::AtomicBool);

impl Dial for PanickingDial {
    fn socket(&self, endpoint: SocketAddr) -> std::io::Result<Socket> {
        assert!(
            self.0.swap(true, std::sync::atomic::Ordering::SeqCst),
            "as the test wants"
        );
        ingress_userspace::proxy::HostDial.socket(endpoint)
    }
}

#[test]
fn a_panic_costs_one_connection() {
    let origin = Origin::echo("origin");
    let dial = Arc::new(PanickingDial(false.into()));
    let options = Options {
        dial,
        ..Options::default()
    };
    let proxy = Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), options);
    let (mut other, mut hit) = (proxy.client(), proxy.client());
    hit.write("GET / HTTP/1.1\r\nHost: one.test\r\n\r\n");
    assert!(hit.is_closed());
    assert_eq!(other.get("one.test", "/").status, 200);
    wait_until("it is counted", || proxy.snapshot().panics == 1);
    wait_until("it is closed", || {
        proxy.snapshot().host.connections_open == 1
    });
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let error = listen(address).unwrap_err();
    assert!(
        matches!(error, ListenError::Taken(port) if port == address.port()),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains(&format!("port {}", address.port())),
        "{error}"
    );
}
