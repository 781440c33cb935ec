//! Tunnels over HTTP/2: extended CONNECT, as browsers open WebSockets.

use aws_lc_rs::digest;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use h2::{RecvStream, SendStream};
use http::{Method, Request, Response};

use crate::h2rig::{connect, run};
use crate::rig::{Client, Head, Origin, Proxy, config, wait_until};

pub(crate) async fn open(
    proxy: &Proxy,
    protocol: &str,
) -> (Response<RecvStream>, SendStream<Bytes>) {
    let mut client: SendRequest<Bytes> = connect(proxy.http).await;
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri("http://one.test/chat")
        .header("sec-websocket-version", "13")
        .extension(Protocol::from(protocol))
        .body(())
        .unwrap();
    let (response, sink) = client.send_request(request, false).unwrap();
    (response.await.unwrap(), sink)
}

/// What RFC 6455 §4.2.2 makes of a key.
pub(crate) fn proof(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bits: Vec<bool> = Vec::new();
    for byte in digest.as_ref() {
        bits.extend((0..8).rev().map(|bit| byte >> bit & 1 == 1));
    }
    let digit = |bits: &[bool]| {
        let number = (0..6).fold(0, |sum, bit| {
            sum << 1 | usize::from(bits.get(bit) == Some(&true))
        });
        char::from(alphabet[number])
    };
    let text: String = bits.chunks(6).map(digit).collect();
    text + "="
}

/// Agrees with this proof, and then sends back what it gets.
fn echo(proof: impl Fn(&Head) -> String + Send + Sync + 'static) -> Origin {
    Origin::start(move |mut connection: Client| {
        let head = connection.read_head().unwrap();
        assert!(head.text.starts_with("GET /chat HTTP/1.1\r\n"));
        assert_eq!(head.field("connection"), Some("upgrade"));
        assert_eq!(head.field("host"), Some("one.test"));
        let protocol = head.field("upgrade").unwrap();
        connection.write(&format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: {protocol}\r\nX-A: b\r\n{}\r\n",
            proof(&head)
        ));
        let stream = connection.stream.get_mut();
        std::io::copy(&mut stream.try_clone().unwrap(), stream).unwrap();
    })
}

fn websocket() -> Origin {
    echo(|head| {
        assert_eq!(head.field("sec-websocket-version"), Some("13"));
        let key = head.field("sec-websocket-key").unwrap();
        format!("Sec-WebSocket-Accept: {}\r\n", proof(key))
    })
}

#[test]
fn a_websocket_reaches_an_http_1_endpoint() {
    let origin = websocket();
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    run(async {
        let (response, mut sink) = open(&proxy, "websocket").await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-a"], "b");
        for gone in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!response.headers().contains_key(gone), "{gone}");
        }
        let mut body = response.into_body();
        for message in ["one", "two"] {
            sink.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
        assert_eq!(proxy.snapshot().tunnels_open, 1);
        sink.send_data(Bytes::from_static(b"end"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "end");
        while let Some(rest) = body.data().await {
            assert_eq!(rest.unwrap(), "", "the end comes back as one");
        }
    });
    wait_until("it is closed", || proxy.snapshot().tunnels_open == 0);
}

#[test]
fn another_protocol_needs_no_proof() {
    let origin = echo(|_| String::new());
    let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
    run(async {
        let (response, _sink) = open(&proxy, "x-own").await;
        assert_eq!(response.status(), 200);
    });
}

#[test]
fn connect_without_a_tunnel_is_not_a_success() {
    let wrong = echo(|_| "Sec-WebSocket-Accept: wrong\r\n".to_owned());
    let ordinary = Origin::fixed("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let refusing = Origin::fixed("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    for (origin, status) in [(wrong, 502), (ordinary, 502), (refusing, 403)] {
        let proxy = Proxy::start(config(&[("one.test", "/", &[origin.address])]));
        run(async {
            let (response, _sink) = open(&proxy, "websocket").await;
            assert_eq!(response.status(), status);
        });
    }
}
