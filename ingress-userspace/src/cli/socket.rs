//! Asks the running daemon over its admin socket.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::request;
use http_body_util::{BodyExt as _, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

use crate::admin;

/// The body of the answer to a question.
pub(super) async fn fetch(run_dir: &Path, question: request::Builder) -> Result<Bytes> {
    let path = admin::socket_path(run_dir);
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "failed to reach a daemon at `{}` (does `sluice run` run here?)",
            path.display()
        )
    })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = question
        .header("host", "admin")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    ensure!(
        response.status().is_success(),
        "the daemon answered {}",
        response.status()
    );
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    Ok(body)
}
