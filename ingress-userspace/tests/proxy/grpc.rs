//! HTTP/2 to endpoints: gRPC in all its forms, and failures that its clients understand.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use ingress_core::ir::{Config, UpstreamProtocol};
use tokio_rustls::TlsAcceptor;

use crate::h2rig::{Asked, H2Origin, call, connect, read, run};
use crate::rig::{Proxy, config, dead, wait_until};

/// A configuration of one backend that speaks a protocol.
pub(crate) fn speaking(protocol: UpstreamProtocol, endpoints: &[SocketAddr]) -> Config {
    let mut config = config(&[("one.test", "/", endpoints)]);
    for (key, backend) in config.backends.clone().iter() {
        let mut backend = (**backend).clone();
        backend.protocol = protocol;
        config.backends.insert(Arc::clone(key), Arc::new(backend));
    }
    config
}

fn ok() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc+proto")
        .body(())
        .unwrap()
}

fn status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers
}

/// Sends back what it gets, message by message, and `grpc-status: 0` at the end.
async fn echo(asked: Asked) {
    let Asked {
        mut request,
        mut respond,
    } = asked;
    assert_eq!(request.headers()["te"], "trailers");
    assert!(!request.headers().contains_key("connection"));
    assert!(!request.headers().contains_key("host"));
    assert_eq!(request.uri().authority().unwrap(), "one.test");
    let mut answer = respond.send_response(ok(), false).unwrap();
    let body = request.body_mut();
    while let Some(chunk) = body.data().await {
        let Ok(chunk) = chunk else {
            return;
        };
        body.flow_control().release_capacity(chunk.len()).unwrap();
        answer.send_data(chunk, false).unwrap();
    }
    let sent = body.trailers().await.unwrap();
    let mut trailers = status("0");
    trailers.extend(sent.unwrap_or_default());
    answer.send_trailers(trailers).unwrap();
}

fn proxy_to(origin: &H2Origin) -> Proxy {
    Proxy::start(speaking(UpstreamProtocol::Http2, &[origin.address]))
}

#[test]
fn a_call_that_streams_both_ways_passes_message_by_message() {
    let origin = H2Origin::start(echo);
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        let (response, mut sink) = call(&client, "/Echo/Both").await;
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/grpc+proto");
        let mut body = response.into_body();
        for message in ["one", "two", "three"] {
            sink.send_data(Bytes::from(message), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), message);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-from-client", "yes".parse().unwrap());
        sink.send_trailers(trailers).unwrap();
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["x-from-client"], "yes");
    });
}

#[test]
fn calls_share_one_connection() {
    let origin = H2Origin::start(echo);
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        let mut open = Vec::new();
        for _ in 0..50 {
            open.push(call(&client, "/Echo/Unary").await);
        }
        for (response, mut sink) in open {
            sink.send_data(Bytes::from_static(b"hello"), true).unwrap();
            let (bytes, trailers) = read(response.await.unwrap()).await;
            assert_eq!(bytes, b"hello");
            assert_eq!(trailers.unwrap()["grpc-status"], "0");
        }
    });
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.snapshot().upstream_connects, 1);
}

#[test]
fn the_peers_bound_on_streams_is_kept() {
    let mut builder = h2::server::Builder::new();
    builder.max_concurrent_streams(4);
    let origin = H2Origin::start_with(echo, None, builder);
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        for round in 0..2 {
            let mut open = Vec::new();
            for _ in 0..20 {
                open.push(call(&client, "/Echo/Unary").await);
            }
            for (response, mut sink) in open {
                sink.send_data(Bytes::from_static(b"hello"), true).unwrap();
                assert_eq!(read(response.await.unwrap()).await.0, b"hello", "{round}");
            }
        }
    });
}

#[test]
fn large_streams_wait_for_a_slow_reader() {
    let origin = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        let mut answer = respond.send_response(ok(), false).unwrap();
        let mut left = 8 << 20;
        while left > 0 {
            answer.reserve_capacity(left.min(1 << 16));
            let Some(Ok(room)) = std::future::poll_fn(|cx| answer.poll_capacity(cx)).await else {
                return;
            };
            // Capacity may be given and taken away again: no room is no reason to send nothing.
            if room > 0 {
                answer.send_data(vec![7; room].into(), false).unwrap();
                left -= room;
            }
        }
        answer.send_trailers(status("0")).unwrap();
    });
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        let (response, mut sink) = call(&client, "/Large/Download").await;
        sink.send_data(Bytes::new(), true).unwrap();
        let (bytes, trailers) = read(response.await.unwrap()).await;
        assert_eq!(bytes.len(), 8 << 20);
        assert_eq!(trailers.unwrap()["grpc-status"], "0");
    });
}

#[test]
fn a_cancelled_call_is_cancelled_upstream() {
    let (cancelled, mut is_cancelled) = tokio::sync::mpsc::unbounded_channel();
    let origin = H2Origin::start(move |asked: Asked| {
        let cancelled = cancelled.clone();
        async move {
            let mut respond = asked.respond;
            let mut answer = respond.send_response(ok(), false).unwrap();
            let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            cancelled.send(reason.unwrap()).unwrap();
        }
    });
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        let (response, mut sink) = call(&client, "/Long/Call").await;
        let _response = response.await.unwrap();
        sink.send_reset(Reason::CANCEL);
        assert_eq!(is_cancelled.recv().await, Some(Reason::CANCEL));
    });
}

#[test]
fn a_refused_stream_is_tried_elsewhere_and_a_broken_one_is_not() {
    let refusing = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        let reason = if asked.request.uri().path() == "/refuse" {
            Reason::REFUSED_STREAM
        } else {
            Reason::INTERNAL_ERROR
        };
        respond.send_reset(reason);
    });
    let serving = H2Origin::start(|asked: Asked| async move {
        let mut respond = asked.respond;
        respond.send_response(Response::new(()), true).unwrap();
    });
    let both = [refusing.address, serving.address];
    let proxy = Proxy::start(speaking(UpstreamProtocol::Http2, &both));
    run(async {
        let client = connect(proxy.http).await;
        let mut failed = 0;
        for number in 0..40 {
            let path = if number % 2 == 0 { "refuse" } else { "break" };
            let request = Request::get(format!("http://one.test/{path}"))
                .body(())
                .unwrap();
            let mut client = client.clone().ready().await.unwrap();
            let (response, _) = client.send_request(request, true).unwrap();
            let status = response.await.unwrap().status();
            if path == "refuse" {
                assert_eq!(status, 200);
            }
            failed += u32::from(status == 502);
        }
        assert!(failed > 0);
    });
    assert!(proxy.snapshot().upstream_retries > 0);
}

/// A call whose client waits only so long.
async fn call_for(
    client: &h2::client::SendRequest<Bytes>,
    timeout: &str,
) -> h2::client::ResponseFuture {
    let mut client = client.clone().ready().await.unwrap();
    let request = Request::post("http://one.test/Long/Call")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("grpc-timeout", timeout)
        .body(())
        .unwrap();
    client.send_request(request, true).unwrap().0
}

#[test]
fn a_call_ends_with_its_deadline_and_its_connection_stays() {
    let (over, mut is_over) = tokio::sync::mpsc::unbounded_channel();
    let origin = H2Origin::start(move |asked: Asked| {
        let over = over.clone();
        async move {
            let mut respond = asked.respond;
            assert!(asked.request.headers().contains_key("grpc-timeout"));
            if asked.request.headers()["grpc-timeout"] == "300m" {
                // Answers, and says nothing more.
                let mut answer = respond.send_response(ok(), false).unwrap();
                let _ = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
            } else {
                let _ = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            }
            over.send(()).unwrap();
        }
    });
    let proxy = proxy_to(&origin);
    run(async {
        let client = connect(proxy.http).await;
        for _ in 0..2 {
            let response = call_for(&client, "100m").await.await.unwrap();
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], "4");
            is_over.recv().await.expect("the endpoint is told");
        }
        let response = call_for(&client, "300m").await.await.unwrap();
        let mut body = response.into_body();
        let error = body
            .data()
            .await
            .expect("it does not end well")
            .unwrap_err();
        assert!(error.is_reset(), "{error}");
        is_over.recv().await.expect("the endpoint is told");
    });
    assert_eq!(origin.connections(), 1);
}

async fn failure(proxy: &Proxy) -> Response<h2::RecvStream> {
    let client = connect(proxy.http).await;
    let (response, mut sink) = call(&client, "/Echo/Unary").await;
    sink.send_data(Bytes::from_static(b"hello"), true).unwrap();
    response.await.unwrap()
}

#[test]
fn failures_are_grpc_statuses() {
    let none = Proxy::start(speaking(UpstreamProtocol::Http2, &[]));
    let refused = Proxy::start(speaking(UpstreamProtocol::Http2, &[dead()]));
    let unknown = Proxy::start(Config::default());
    for (proxy, code) in [(none, "14"), (refused, "14"), (unknown, "12")] {
        run(async {
            let response = failure(&proxy).await;
            assert_eq!(response.status(), 200);
            assert_eq!(response.headers()["grpc-status"], code);
            assert!(response.headers().contains_key("grpc-message"));
            assert_eq!(response.headers()["content-type"], "application/grpc");
            assert!(response.body().is_end_stream());
        });
    }
}

/// TLS of a pod, with a certificate that proves nothing.
pub(crate) fn server_config(alpn: &[u8]) -> rustls::ServerConfig {
    let made = rcgen::generate_simple_self_signed(vec!["pod".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.unwrap())
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

#[test]
fn http_2_over_tls_is_agreed_on_by_alpn() {
    let tls = TlsAcceptor::from(Arc::new(server_config(b"h2")));
    let agreeing = H2Origin::start_with(echo, Some(tls), h2::server::Builder::new());
    let proxy = Proxy::start(speaking(UpstreamProtocol::Http2Tls, &[agreeing.address]));
    run(async {
        let client = connect(proxy.http).await;
        for _ in 0..3 {
            let (response, mut sink) = call(&client, "/Echo/Unary").await;
            sink.send_data(Bytes::from_static(b"hello"), true).unwrap();
            assert_eq!(read(response.await.unwrap()).await.0, b"hello");
        }
    });
    assert_eq!(agreeing.connections(), 1);
}

#[test]
fn a_connection_that_nobody_needs_any_more_is_closed() {
    let (ended, has_ended) = std::sync::mpsc::channel();
    let origin = H2Origin::start(move |asked: Asked| {
        let ended = ended.clone();
        async move {
            let mut respond = asked.respond;
            respond.send_response(Response::new(()), true).unwrap();
            // The body ends in error with its connection, or without one at the end.
            ended.send(()).unwrap();
        }
    });
    let proxy = proxy_to(&origin);
    assert_eq!(proxy.get("one.test", "/").status, 200);
    has_ended.recv().unwrap();
    proxy.publish(config(&[]));
    proxy.publish(speaking(UpstreamProtocol::Http2, &[origin.address]));
    assert_eq!(proxy.get("one.test", "/").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn http_1_clients_reach_http_2_endpoints() {
    let origin = H2Origin::start(|asked: Asked| async move {
        let Asked {
            request,
            mut respond,
        } = asked;
        let uri = request.uri().to_string();
        let length = request.headers().get("content-length").cloned();
        let (mut bytes, _) = read(Response::new(request.into_body())).await;
        bytes.extend_from_slice(uri.as_bytes());
        let mut answer = Response::new(());
        if let Some(length) = length {
            answer.headers_mut().insert("x-length", length);
        }
        let mut sink = respond.send_response(answer, false).unwrap();
        sink.send_data(bytes.into(), true).unwrap();
    });
    let proxy = proxy_to(&origin);
    let mut client = proxy.client();
    for _ in 0..3 {
        client.write("POST /a?b HTTP/1.1\r\nHost: one.test\r\nContent-Length: 4\r\n\r\nbody");
        let reply = client.read_reply();
        assert_eq!(reply.text(), "bodyhttp://one.test/a?b");
        assert_eq!(reply.head.field("x-length"), Some("4"));
        // Asking for another protocol is in vain, and no harm.
        let mut other = proxy.client();
        other.write(
            "GET /c HTTP/1.1\r\nHost: one.test\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        );
        assert_eq!(other.read_reply().text(), "http://one.test/c");
    }
    wait_until("all is counted", || {
        proxy.snapshot().host.responses_2xx == 6
    });
    assert_eq!(origin.connections(), 1);
}
