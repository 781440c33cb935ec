//! What pods run: an HTTP server that tells who it is and what it saw.
//!
//! `GET /bytes/N` answers N bytes; everything else answers a report in JSON. With SIGTERM it accepts
//! no more, finishes what it has begun and ends, as a well-behaved server does.

use std::convert::Infallible;
use std::env;
use std::net::{Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
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
    let CommandLine { name, listen, port } = CommandLine::parse();
    let variable = |name| env::var(name).unwrap_or_default();
    let identity = Arc::new(Identity {
        pod: name,
        namespace: variable("NAMESPACE"),
        ingress: variable("INGRESS_NAME"),
        service: variable("SERVICE_NAME"),
    });
    let listen = listen.unwrap_or((Ipv6Addr::UNSPECIFIED, port).into());
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
    let mut connection = pin!(connection);
    // A client that leaves in the middle is no fault of ours.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = stopping.changed() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    request: Request<Incoming>,
    identity: &Identity,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path();
    let count = path
        .strip_prefix("/bytes/")
        .and_then(|count| count.parse::<usize>().ok());
    if let Some(count) = count {
        return Ok(Response::new(Full::from(vec![b'x'; count.min(BYTES_MAX)])));
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

const BYTES_MAX: usize = 256 << 20;
