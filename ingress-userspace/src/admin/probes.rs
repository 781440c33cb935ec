//! The admin port: what Prometheus and the kubelet ask for, over TCP.
//!
//! Whoever reaches it may read: it tells names of objects and nothing of their contents. What a
//! stranger can hold of it is bounded in number and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::debug;

use super::Question;
use crate::proxy::Metrics;

/// Whether clients should be sent here. Shared by those who know and those who ask.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// The first configuration is served.
    pub fn ready(&self) {
        self.0.store(READY, Ordering::Relaxed);
    }

    /// What it is, in one word: `starting`, `ready` or `draining`.
    pub fn name(&self) -> &'static str {
        match self.0.load(Ordering::Relaxed) {
            READY => "ready",
            DRAINING => "draining",
            _ => "starting",
        }
    }

    /// The end is near: clients should go elsewhere.
    pub fn drain(&self) {
        self.0.store(DRAINING, Ordering::Relaxed);
    }
}

/// Where the metrics will be once there are workers to count.
#[derive(Clone, Default)]
pub struct MetricsSlot(Arc<ArcSwapOption<Metrics>>);

impl MetricsSlot {
    /// Puts them there, in place of those of workers that end.
    pub fn fill(&self, metrics: Metrics) {
        self.0.store(Some(Arc::new(metrics)));
    }
}

/// What the admin port tells.
#[derive(Clone)]
pub struct Probes {
    /// Whether clients should be sent here.
    pub readiness: Readiness,
    /// What the workers count.
    pub metrics: MetricsSlot,
    /// Asks the app's loop for a sign of life.
    pub questions: mpsc::Sender<Question>,
}

impl Probes {
    /// Answers until it is dropped.
    pub async fn serve(self, listener: TcpListener) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(super::ACCEPT_PAUSE).await;
                continue;
            };
            let probes = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                let service = service_fn(|request| probes.answer(request));
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIME_MAX, connection).await
                {
                    debug!(%error, "probe ended");
                }
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(match request.uri().path() {
            "/metrics" => self.metrics().await,
            "/healthz" => self.health().await,
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        })
    }

    async fn metrics(&self) -> Response<Full<Bytes>> {
        let metrics = self.metrics.clone();
        let texts = move || metrics.0.load_full().map(|metrics| metrics.text());
        let body = match tokio::task::spawn_blocking(texts).await {
            Ok(Some(body)) => body,
            Ok(None) => return text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
            Err(_) => return text(StatusCode::INTERNAL_SERVER_ERROR, "metrics failed\n"),
        };
        let mut response = Response::new(Full::from(body));
        let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
        response.headers_mut().insert(CONTENT_TYPE, format);
        response
    }

    /// Whether a restart would mend anything: the loop is stuck or a worker has died. That the end
    /// is near is no reason to hasten it.
    async fn health(&self) -> Response<Full<Bytes>> {
        if self.readiness.0.load(Ordering::Relaxed) == DRAINING {
            return text(StatusCode::OK, "draining\n");
        }
        let (question, answer) = oneshot::channel();
        let asked = async {
            self.questions.send(Question::Status(question)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(LOOP_TIME_MAX, asked).await {
            Ok(Some(status)) if status.workers.iter().all(|worker| worker.is_running) => {
                text(StatusCode::OK, "ok\n")
            }
            Ok(Some(_)) => text(StatusCode::INTERNAL_SERVER_ERROR, "a worker has died\n"),
            Ok(None) | Err(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "control is stuck\n"),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        match self.readiness.0.load(Ordering::Relaxed) {
            READY => text(StatusCode::OK, "ok\n"),
            DRAINING => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Connections to the admin port; further ones wait.
const CONNECTIONS_MAX: usize = 64;

/// For which one connection is served, idle or not.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);

/// How long the app's loop may be busy before it counts as stuck: the longest change that it has to
/// translate is far shorter.
const LOOP_TIME_MAX: Duration = Duration::from_secs(5);
