//! What pods run: an HTTP server that tells who it is and what it saw.
//!
//! `GET /bytes/N` answers N bytes; `POST` and `PUT` answer how many bytes came; everything else
//! answers a report in JSON.

use std::convert::Infallible;
use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use clap::Parser;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

#[derive(Parser)]
#[command(about = "An HTTP server that tells who it is and what it saw")]
struct CommandLine {
    /// Who it is.
    #[arg(long)]
    name: String,
    /// Where it listens.
    #[arg(long)]
    listen: SocketAddr,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let CommandLine { name, listen } = CommandLine::parse();
    let listener = TcpListener::bind(listen).await?;
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let name = name.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &name, peer));
            // A client that leaves in the middle is no fault of ours.
            let _ = http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    name: &str,
    peer: SocketAddr,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let count = path
        .strip_prefix("/bytes/")
        .and_then(|count| count.parse::<usize>().ok());
    if let Some(count) = count {
        return Ok(Response::new(Full::from(vec![b'x'; count.min(BYTES_MAX)])));
    }
    if matches!(*request.method(), Method::POST | Method::PUT) {
        let mut body = request.into_body();
        let mut received = 0;
        while let Some(Ok(frame)) = body.frame().await {
            received += frame.data_ref().map_or(0, Bytes::len);
        }
        return Ok(Response::new(Full::from(format!("{received}\n"))));
    }
    let headers: Map<String, Value> = request
        .headers()
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    let report = json!({
        "pod": name,
        "peer": peer.ip().to_canonical().to_string(),
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "headers": headers,
    });
    let response = Response::builder().header("content-type", "application/json");
    Ok(response
        .body(Full::from(report.to_string()))
        .unwrap_or_default())
}

const BYTES_MAX: usize = 256 << 20;
