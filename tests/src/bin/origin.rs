//! What pods run: an HTTP server that tells who it is and what it saw.
//!
//! `GET /bytes/N` answers N bytes, a WebSocket gets back what it sends, and everything else answers a
//! report in JSON. With SIGTERM it accepts no more, finishes what it has begun and ends, as a
//! well-behaved server does. On a port of its own it answers every gRPC call with an empty message.

use std::convert::Infallible;
use std::env;
use std::future::ready;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use anyhow::Result;
use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use clap::Parser;
use http::header::{CONNECTION, CONTENT_TYPE, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ingress_tests::clock;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

#[derive(Parser)]
#[command(about = "An HTTP server that tells who it is and what it saw")]
struct CommandLine {
    /// Who it is.
    #[arg(long, env = "POD_NAME", default_value = "")]
    name: String,
    /// Where it listens [default: the port of $PORT, else 8080, on every address].
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Port to listen on.
    #[arg(long, env = "PORT", default_value_t = 8080)]
    port: u16,
    /// Where it answers gRPC calls, in cleartext.
    #[arg(long)]
    listen_grpc: Option<SocketAddr>,
}

/// Who answers; the names are those of the conformance suite's echo server.
struct Identity {
    pod: String,
    namespace: String,
    ingress: String,
    service: String,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let CommandLine {
        name,
        listen,
        port,
        listen_grpc,
    } = CommandLine::parse();
    let variable = |name| env::var(name).unwrap_or_default();
    let identity = Arc::new(Identity {
        pod: name,
        namespace: variable("NAMESPACE"),
        ingress: variable("INGRESS_NAME"),
        service: variable("SERVICE_NAME"),
    });
    let listen = listen.unwrap_or((Ipv6Addr::UNSPECIFIED, port).into());
    if let Some(listen) = listen_grpc {
        tokio::spawn(serve_calls(TcpListener::bind(listen).await?));
    }
    let listener = TcpListener::bind(listen).await?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopping) = watch::channel(());
    loop {
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => accepted?,
            _ = terminate.recv() => break,
        };
        stream.set_nodelay(true)?;
        let (identity, stopping) = (Arc::clone(&identity), stopping.clone());
        tokio::spawn(serve(stream, peer, identity, stopping));
    }
    drop((listener, stopping));
    let _ = stop.send(());
    // Every connection holds a receiver until its end.
    stop.closed().await;
    Ok(())
}

async fn serve(
    stream: TcpStream,
    peer: SocketAddr,
    identity: Arc<Identity>,
    mut stopping: watch::Receiver<()>,
) {
    let service = service_fn(|request| answer(request, &identity, peer));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let connection = connection.with_upgrades();
    let mut connection = pin!(connection);
    // A client that leaves in the middle is no fault of ours.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    mut request: Request<Incoming>,
    identity: &Identity,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let at = clock::now();
    let path = request.uri().path();
    let count = path
        .strip_prefix("/bytes/")
        .and_then(|count| count.parse::<usize>().ok());
    if let Some(count) = count {
        return Ok(Response::new(Full::from(vec![b'x'; count.min(BYTES_MAX)])));
    }
    if let Some(key) = request.headers().get(SEC_WEBSOCKET_KEY) {
        let response = Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(CONNECTION, "upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_ACCEPT, accept_key(key.as_bytes()));
        tokio::spawn(echo(hyper::upgrade::on(&mut request)));
        return Ok(response.body(Full::default()).unwrap_or_default());
    }
    let (head, mut body) = request.into_parts();
    let mut received = 0;
    while let Some(Ok(frame)) = body.frame().await {
        received += frame.data_ref().map_or(0, Bytes::len);
    }
    let text = |value: &[u8]| Value::from(String::from_utf8_lossy(value));
    let headers: Map<String, Value> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_bytes())))
        .collect();
    let report = json!({
        "pod": identity.pod,
        "at_ns": at,
        "namespace": identity.namespace,
        "ingress": identity.ingress,
        "service": identity.service,
        "peer": peer.ip().to_canonical().to_string(),
        "method": head.method.as_str(),
        "path": head.uri.to_string(),
        "proto": format!("{:?}", head.version),
        "host": headers.get("host"),
        "headers": headers,
        "body_bytes": received,
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response
        .body(Full::from(report.to_string()))
        .unwrap_or_default())
}

/// RFC 6455 §4.2.2.
fn accept_key(key: &[u8]) -> String {
    let text = [key, b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"].concat();
    let digest = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &text);
    BASE64.encode(digest)
}

/// Sends back what comes. A frame keeps its mask, which a strict client would mind.
async fn echo(upgraded: OnUpgrade) {
    let Ok(upgraded) = upgraded.await else {
        return;
    };
    let mut stream = TokioIo::new(upgraded);
    let mut buffer = vec![0; ECHO_BYTES];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        if stream.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}

async fn serve_calls(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let service = service_fn(answer_call);
        let connection = http2::Builder::new(TokioExecutor::new());
        tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
    }
}

/// An empty message and the status 0, in trailers.
async fn answer_call(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let mut body = request.into_body();
    while let Some(Ok(_)) = body.frame().await {}
    let trailers = HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        HeaderValue::from_static("0"),
    )]);
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let mut response = Response::new(message.with_trailers(ready(Some(Ok(trailers)))));
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Ok(response)
}

const ECHO_BYTES: usize = 64 * 1024;
const BYTES_MAX: usize = 256 << 20;
