//! Asks the running daemon over its admin socket.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::admin;

/// No daemon answers at the admin socket.
#[derive(Debug, Error)]
#[error("failed to reach a daemon at `{path}` (does `sluice run` run here?)", path = .path.display())]
pub struct Unreachable {
    path: PathBuf,
    source: io::Error,
}

/// The body of the answer to a question.
pub(super) async fn fetch(run_dir: &Path, question: request::Builder) -> Result<Bytes> {
    let path = admin::socket_path(run_dir);
    let stream = UnixStream::connect(&path).await;
    let stream = stream.map_err(|source| Unreachable { path, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = question
        .header("host", "admin")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    let text = String::from_utf8_lossy(&body);
    ensure!(
        status.is_success(),
        "the daemon answered {status}: {}",
        text.trim_end()
    );
    Ok(body)
}
