//! Asks the running daemon over its admin socket.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::request;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
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
    let answer = open(run_dir, question).await?;
    Ok(answer.collect().await?.to_bytes())
}

/// The answer to a question, to be read as it comes. `place` is a run directory or the socket itself,
/// which SSH forwards under another name.
pub(super) async fn open(place: &Path, question: request::Builder) -> Result<Incoming> {
    let is_socket = place.extension() == Some(OsStr::new("sock"))
        || fs::metadata(place).is_ok_and(|file| file.file_type().is_socket());
    let path = if is_socket {
        place.to_owned()
    } else {
        admin::socket_path(place)
    };
    let stream = UnixStream::connect(&path).await;
    let stream = stream.map_err(|source| Unreachable { path, source })?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the body.
    tokio::spawn(connection);
    let request = question
        .header("host", "admin")
        .body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body();
    if status.is_success() {
        return Ok(body);
    }
    let text = body.collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&text);
    bail!("the daemon answered {status}: {}", text.trim_end())
}

/// An answer of lines, whole lines at a time.
pub(super) struct Lines {
    body: Incoming,
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn of(body: Incoming) -> Self {
        let rest = Vec::new();
        Self { body, rest }
    }

    /// The next lines, with their ends; `None` at the end of the answer.
    ///
    /// # Errors
    ///
    /// An error if the connection breaks.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        while let Some(frame) = self.body.frame().await {
            let Ok(data) = frame.context("lost the daemon")?.into_data() else {
                continue;
            };
            self.rest.extend_from_slice(&data);
            if let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(self.rest.drain(..=end).collect()));
            }
        }
        Ok(None)
    }
}
