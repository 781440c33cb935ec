//! Accepts connections of browsers. Their number and age are bounded, and every answer is protected.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::State;
use super::assets::{self, accepts_gzip};
use super::gate::{self, Asked, Refusal};
use super::policy::{Caching, protect};
use crate::admin::ServedCertificate;

/// Serves until it is dropped.
pub(super) async fn serve(
    listener: std::net::TcpListener,
    mut certificate: Option<ServedCertificate>,
    state: Arc<State>,
) -> Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener).context("failed to watch the listener")?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let acceptor = certificate.as_mut().map(|certificate| {
            certificate.renew();
            TlsAcceptor::from(certificate.config())
        });
        let state = Arc::clone(&state);
        tokio::spawn(async move {
            let _permit = permit;
            let Some(acceptor) = acceptor else {
                return connection(stream, &state).await;
            };
            match timeout(HEAD_TIME_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => connection(stream, &state).await,
                Ok(Err(error)) => debug!(%error, "a TLS handshake with a browser failed"),
                Err(_) => debug!("a TLS handshake with a browser timed out"),
            }
        });
    }
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, state: &Arc<State>) {
    let ended = Arc::new(Notify::new());
    let is_streaming = AtomicBool::new(false);
    let service = service_fn(async |request: Request<Incoming>| {
        let response = answer(state, request, &ended).await;
        if response.body().size_hint().exact().is_none() {
            is_streaming.store(true, Ordering::Relaxed);
        }
        Ok::<_, Infallible>(response)
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME_MAX)
        .max_buf_size(BUFFER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let limit = async {
        sleep(CONNECTION_TIME_MAX).await;
        if is_streaming.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        outcome = serving => if let Err(error) = outcome {
            debug!(%error, "a connection of a browser failed");
        },
        () = limit => debug!("closed a connection of a browser"),
        () = ended.notified() => debug!("closed a stream that its browser did not read"),
    }
}

async fn answer(
    state: &Arc<State>,
    request: Request<Incoming>,
    ended: &Arc<Notify>,
) -> Response<Answer> {
    let path = request.uri().path().to_owned();
    let asked = gate::read(&state.hosts, request.method(), &path, request.headers());
    let found = match asked {
        Ok(Asked::Page) => assets::page(request.headers()),
        Ok(Asked::Asset(name)) => assets::file(name, request.headers()),
        Ok(Asked::LogIn) => Some(state.log_in(request).await),
        Ok(Asked::Data(resource)) => Some(state.data(resource, &request, ended).await),
        Err(refusal) => Some(refused(refusal, &path)),
    };
    found.unwrap_or_else(|| refused(Refusal::NotFound, &path))
}

fn refused(refusal: Refusal, path: &str) -> Response<Answer> {
    let mut response = Response::new(Full::from(refusal.text()).boxed_unsync());
    *response.status_mut() = refusal.status();
    let fields = response.headers_mut();
    protect(fields, Caching::Never);
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    fields.insert(CONTENT_TYPE, text);
    if refusal == Refusal::Method {
        let allowed = if path == "/session" { "POST" } else { "GET" };
        fields.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// An error message, as JSON for the page.
pub(super) fn problem(status: StatusCode, text: &str) -> Response<Answer> {
    let mut response = json(&serde_json::json!({ "error": text }));
    *response.status_mut() = status;
    response
}

/// A short answer.
pub(super) fn json(value: &impl Serialize) -> Response<Answer> {
    of_json(serde_json::to_vec(value))
}

/// A long answer, compressed where the browser takes that.
pub(super) async fn compressed(fields: &HeaderMap, value: &impl Serialize) -> Response<Answer> {
    let written = serde_json::to_vec(value);
    let text = match written {
        Ok(text) if text.len() >= COMPRESSED_BYTES_MIN && accepts_gzip(fields) => text,
        other => return of_json(other),
    };
    let compressing = spawn_blocking(move || {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&text)?;
        encoder.finish()
    });
    let Ok(Ok(text)) = compressing.await else {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "compression failed");
    };
    let mut response = of_json(Ok(text));
    let fields = response.headers_mut();
    fields.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    fields.insert(VARY, HeaderValue::from_static("accept-encoding"));
    response
}

fn of_json(text: serde_json::Result<Vec<u8>>) -> Response<Answer> {
    let (status, text) = match text {
        Ok(text) => (StatusCode::OK, text),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, b"{}".to_vec()),
    };
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    let fields = response.headers_mut();
    protect(fields, Caching::Never);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// Frames as they are made.
pub(super) struct FrameBody(pub(super) mpsc::Receiver<Bytes>);

impl Body for FrameBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = self.0.poll_recv(cx);
        frame.map(|frame| frame.map(|frame| Ok(Frame::data(frame))))
    }
}

/// Connections of browsers; further ones wait.
const CONNECTIONS_MAX: usize = 64;
/// The longest life of a connection without a stream.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);
/// The time in which a browser has to send the head of its request.
const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes that are buffered for one connection; larger parts of a body are not copied.
const BUFFER_BYTES_MAX: usize = 16 << 10;
/// The smallest answer that is compressed.
const COMPRESSED_BYTES_MIN: usize = 4 << 10;
