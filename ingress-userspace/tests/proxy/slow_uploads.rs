//! Clients that send their request bodies slowly hold no connection of an endpoint.

use std::time::Duration;

use ingress_core::ir::UpstreamProtocol;
use ingress_userspace::proxy::Timeouts;

use crate::h2rig;
use crate::rig::{Client, Options, Origin, Proxy, config, streaming, wait_until};

/// Begins a request with a body, of which one byte comes.
fn begin(proxy: &Proxy, fields: &str) -> Client {
    let mut client = proxy.client();
    client.write(&format!(
        "POST / HTTP/1.1\r\nHost: one.test\r\n{fields}\r\n\r\nx"
    ));
    client
}

fn start(origin: &Origin, options: Options) -> Proxy {
    Proxy::start_with(config(&[("one.test", "/", &[origin.address])]), options)
}

fn all_are_read(proxy: &Proxy, requests: u64) {
    wait_until("all requests are read", || {
        proxy.snapshot().host.requests == requests && proxy.snapshot().stalled == requests
    });
}

#[test]
fn a_hundred_slow_uploads_hold_no_connection() {
    let origin = Origin::repeating();
    let proxy = start(&origin, Options::default());
    let mut clients: Vec<_> = (0..50)
        .map(|_| begin(&proxy, "Content-Length: 3"))
        .collect();
    let large = (0..25).map(|_| begin(&proxy, "Content-Length: 1000000"));
    clients.extend(large);
    let chunked = (0..25).map(|_| {
        let mut client = proxy.client();
        client.write(
            "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
        );
        client
    });
    clients.extend(chunked);
    all_are_read(&proxy, 100);
    assert_eq!(origin.connections(), 0);
    clients[0].write("yz");
    assert_eq!(clients[0].read_reply().text(), "xyz");
    let last = &mut clients[99];
    last.write("2\r\nyz\r\n0\r\n\r\n");
    assert_eq!(last.read_reply().text(), "xyz");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn long_bodies_are_streamed_after_their_beginning() {
    let origin = Origin::repeating();
    let proxy = start(&origin, Options::default());
    let mut client = proxy.client();
    client.write("POST / HTTP/1.1\r\nHost: one.test\r\nContent-Length: 100000\r\n\r\n");
    let half = "x".repeat(70_000);
    client.write(&half);
    wait_until("the endpoint is asked", || origin.connections() == 1);
    client.write(&"y".repeat(30_000));
    assert_eq!(
        client.read_reply().body,
        [half, "y".repeat(30_000)].concat().into_bytes()
    );
}

#[test]
fn a_body_whose_length_nobody_said_keeps_its_trailers() {
    let origin = Origin::start(|mut connection| {
        while let Some(head) = connection.read_head() {
            assert_eq!(head.field("transfer-encoding"), Some("chunked"));
            assert_eq!(connection.read_body(&head), b"x");
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let proxy = start(&origin, Options::default());
    let mut client = proxy.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: one.test\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n\
         1\r\nx\r\n0\r\nx-sum: 1\r\n\r\n",
    );
    assert_eq!(client.read_reply().status, 200);
}

#[test]
fn a_route_may_stream_its_bodies() {
    let origin = Origin::repeating();
    let config = config(&[("one.test", "/", &[origin.address])]);
    let proxy = Proxy::start(streaming(config));
    let mut client = begin(&proxy, "Content-Length: 3");
    wait_until("the endpoint is asked", || origin.connections() == 1);
    client.write("yz");
    assert_eq!(client.read_reply().text(), "xyz");
}

#[test]
fn expecting_client_gets_100_before_an_endpoint_is_chosen() {
    let origin = Origin::repeating();
    let proxy = start(&origin, Options::default());
    let mut client = proxy.client();
    client.write(
        "POST / HTTP/1.1\r\nHost: one.test\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.read_head().unwrap().status(), 100);
    assert_eq!(origin.connections(), 0);
    client.write("xyz");
    assert_eq!(client.read_reply().text(), "xyz");
}

#[test]
fn paused_upload_is_answered_with_408() {
    let origin = Origin::repeating();
    let timeouts = Timeouts {
        client_body: Duration::from_millis(1),
        ..Timeouts::default()
    };
    let proxy = start(&origin, Options::timeouts(timeouts));
    let mut client = begin(&proxy, "Content-Length: 3");
    assert_eq!(client.read_reply().status, 408);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn messages_of_grpc_are_not_held() {
    h2rig::run(async {
        let origin = h2rig::H2Origin::start(|asked| async move {
            drop(asked);
        });
        let config = crate::grpc::speaking(UpstreamProtocol::Http2, &[origin.address]);
        let proxy = Proxy::start(config);
        let client = h2rig::connect(proxy.http).await;
        let (_response, _stream) = h2rig::call(&client, "/s/m").await;
        while origin.connections() == 0 {
            tokio::task::yield_now().await;
        }
    });
}
