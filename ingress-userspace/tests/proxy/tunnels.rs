//! Tunnels to endpoints that speak HTTP/2: extended CONNECT, however the client has asked.

use std::io::{Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use h2::ext::Protocol;
use h2::server::Builder;
use h2::{Reason, RecvStream, SendStream};
use http::{Method, Request, Response};
use ingress_core::ir::UpstreamProtocol;

use crate::connect::{open, proof};
use crate::grpc::speaking;
use crate::h2rig::{Asked, H2Origin, run};
use crate::rig::{Client, Proxy, wait_until};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// An origin whose settings allow extended CONNECT.
fn allowing<F>(serve: impl Fn(Asked) -> F + Send + Clone + 'static) -> H2Origin
where
    F: Future<Output = ()> + 'static,
{
    let mut builder = Builder::new();
    builder.enable_connect_protocol();
    H2Origin::start_with(serve, None, builder)
}

/// Checks what it was asked, and then sends back what it gets.
async fn echo(asked: Asked) {
    let Asked {
        request,
        mut respond,
    } = asked;
    check(&request);
    let agreed = Response::builder().header("x-a", "b").body(()).unwrap();
    let mut sink = respond.send_response(agreed, false).unwrap();
    let mut source = request.into_body();
    while let Some(Ok(bytes)) = source.data().await {
        pass_on(&mut sink, &mut source, bytes).await;
    }
    let _ = sink.send_data(Bytes::new(), true);
}

fn check(request: &Request<RecvStream>) {
    assert_eq!(request.method(), Method::CONNECT);
    let protocol = request.extensions().get::<Protocol>().unwrap();
    assert_eq!(protocol.as_str(), "websocket");
    assert_eq!(request.uri(), "http://one.test/chat");
    assert_eq!(request.headers()["sec-websocket-version"], "13");
    for gone in ["sec-websocket-key", "connection", "upgrade", "host"] {
        assert!(!request.headers().contains_key(gone), "{gone}");
    }
}

/// Takes no more than the other side does.
async fn pass_on(sink: &mut SendStream<Bytes>, source: &mut RecvStream, mut bytes: Bytes) {
    while !bytes.is_empty() {
        sink.reserve_capacity(bytes.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| sink.poll_capacity(cx)).await else {
            return;
        };
        let part = bytes.split_to(room.min(bytes.len()));
        let length = part.len();
        sink.send_data(part, false).unwrap();
        source.flow_control().release_capacity(length).unwrap();
    }
}

fn proxy(origin: &H2Origin) -> Proxy {
    Proxy::start(speaking(UpstreamProtocol::Http2, &[origin.address]))
}

/// Asks for a WebSocket over HTTP/1.1.
fn ask(proxy: &Proxy) -> Client {
    let mut client = proxy.client();
    client.write(&format!(
        "GET /chat HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\n\r\n"
    ));
    client
}

fn expect(client: &mut Client, text: &[u8]) {
    let mut got = vec![0; text.len()];
    client.stream.read_exact(&mut got).unwrap();
    assert!(got == text, "{:?}", String::from_utf8_lossy(&got));
}

#[test]
fn a_websocket_over_http_1_reaches_an_http_2_endpoint() {
    let origin = allowing(echo);
    let proxy = proxy(&origin);
    for _ in 0..2 {
        let mut client = ask(&proxy);
        let head = client.read_head().unwrap();
        assert_eq!(head.status(), 101);
        assert_eq!(head.field("connection"), Some("upgrade"));
        assert_eq!(head.field("upgrade"), Some("WebSocket"));
        assert_eq!(head.field("sec-websocket-accept"), Some(&*proof(KEY)));
        assert_eq!(head.field("x-a"), Some("b"));
        assert_eq!(head.field("content-length"), None);
        for message in ["one", "two"] {
            client.write(message);
            expect(&mut client, message.as_bytes());
        }
        assert_eq!(proxy.snapshot().tunnels_open, 1);
        client.write("last words");
        client.stream.get_mut().shutdown(Shutdown::Write).unwrap();
        expect(&mut client, b"last words");
        assert!(client.is_closed());
        wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
    }
    assert_eq!(origin.connections(), 1, "a tunnel is one stream of many");
    assert!(proxy.metrics().contains("status=\"101\""));
}

#[test]
fn an_extended_connect_reaches_an_http_2_endpoint() {
    let origin = allowing(echo);
    let proxy = proxy(&origin);
    run(async {
        let (response, mut sink) = open(&proxy, "websocket").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-a"], "b");
        let mut body = response.into_body();
        for message in ["one", "two"] {
            sink.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
        sink.send_data(Bytes::from_static(b"end"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "end");
        while let Some(rest) = body.data().await {
            assert_eq!(rest.unwrap(), "", "the end comes back as one");
        }
    });
    wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
}

#[test]
fn both_directions_carry_more_than_any_window() {
    let origin = allowing(echo);
    let proxy = proxy(&origin);
    let mut client = ask(&proxy);
    assert_eq!(client.read_head().unwrap().status(), 101);
    let bytes: Vec<u8> = (0..=250).cycle().take(4 << 20).collect();
    let mut writing = client.stream.get_mut().try_clone().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || writing.write_all(&sent).unwrap());
    expect(&mut client, &bytes);
    writer.join().unwrap();
}

#[test]
fn an_endpoint_whose_settings_allow_no_tunnel_gets_none() {
    let origin = H2Origin::start(|asked: Asked| async move {
        assert_eq!(
            asked.request.method(),
            Method::GET,
            "it was asked for a tunnel"
        );
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let proxy = proxy(&origin);
    let mut client = ask(&proxy);
    let reply = client.read_reply();
    assert_eq!(reply.status, 501);
    assert_eq!(
        reply.text(),
        "501 the endpoint takes no tunnels over HTTP/2\n"
    );
    assert!(client.is_closed(), "what follows may not be meant as HTTP");
    run(async {
        let (response, _sink) = open(&proxy, "websocket").await;
        assert_eq!(response.status(), 501);
    });
    assert_eq!(proxy.get("one.test", "/").status, 200);
    assert_eq!(proxy.snapshot().tunnels, 0);
}

#[test]
fn refused_tunnel_is_not_a_success() {
    for (answer, expected) in [(204, 502), (403, 403)] {
        let origin = allowing(move |asked: Asked| async move {
            let mut respond = asked.respond;
            let response = Response::builder().status(answer).body(()).unwrap();
            let mut sink = respond.send_response(response, false).unwrap();
            sink.send_data(Bytes::from_static(b""), true).unwrap();
        });
        let proxy = proxy(&origin);
        assert_eq!(ask(&proxy).read_head().unwrap().status(), expected);
        run(async {
            let (response, _sink) = open(&proxy, "websocket").await;
            assert_eq!(response.status(), expected);
        });
    }
}

#[test]
fn an_upgrade_to_something_else_is_ignored() {
    let origin = allowing(|asked: Asked| async move {
        assert_eq!(asked.request.method(), Method::GET);
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let proxy = proxy(&origin);
    for fields in [
        format!("Upgrade: x/1\r\nSec-WebSocket-Key: {KEY}"),
        format!("Upgrade: websocket, x/1\r\nSec-WebSocket-Key: {KEY}"),
        "Upgrade: websocket".to_owned(),
    ] {
        let mut client = proxy.client();
        client.write(&format!(
            "GET / HTTP/1.1\r\nHost: one.test\r\nConnection: Upgrade\r\n{fields}\r\n\r\n"
        ));
        assert_eq!(client.read_reply().status, 200, "{fields}");
        assert!(client.is_closed());
    }
}

#[test]
fn a_stream_that_the_endpoint_resets_ends_the_tunnel() {
    let origin = allowing(|asked: Asked| async move {
        let mut respond = asked.respond;
        let mut sink = respond.send_response(Response::new(()), false).unwrap();
        let mut source = asked.request.into_body();
        let _ = source.data().await;
        sink.send_reset(Reason::INTERNAL_ERROR);
    });
    let proxy = proxy(&origin);
    let mut client = ask(&proxy);
    assert_eq!(client.read_head().unwrap().status(), 101);
    client.write("go");
    assert!(client.is_closed());
    wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
}

#[test]
fn a_client_that_goes_ends_the_stream() {
    let (gone, is_gone) = std::sync::mpsc::channel();
    let origin = allowing(move |asked: Asked| {
        let gone = gone.clone();
        async move {
            let mut respond = asked.respond;
            let _sink = respond.send_response(Response::new(()), false).unwrap();
            let mut source = asked.request.into_body();
            while let Some(Ok(_)) = source.data().await {}
            gone.send(()).unwrap();
        }
    });
    let proxy = proxy(&origin);
    let mut client = ask(&proxy);
    assert_eq!(client.read_head().unwrap().status(), 101);
    drop(client);
    is_gone.recv_timeout(crate::rig::PATIENCE).unwrap();
}
