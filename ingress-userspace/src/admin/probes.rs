//! The admin port: what Prometheus and the kubelet ask for, over TCP.
//!
//! Whoever reaches it may read: it tells names of objects and nothing of their contents. What a
//! stranger can hold of it is bounded in number and time.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};
use tracing::debug;

use super::Question;
use super::scrape::{Progress, Scrapes, Unavailable};
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

    pub(super) fn load(&self) -> Option<Arc<Metrics>> {
        self.0.load_full()
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
        let scrapes = Scrapes::new(self.metrics.clone());
        let health = LastHealth::default();
        loop {
            let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(super::ACCEPT_PAUSE).await;
                continue;
            };
            let (probes, scrapes, health) = (self.clone(), scrapes.clone(), health.clone());
            tokio::spawn(async move {
                let _permit = permit;
                let progress = Progress::default();
                let service =
                    service_fn(|request| probes.answer(request, &scrapes, &health, &progress));
                let connection = http1::Builder::new()
                    .max_buf_size(BUFFER_BYTES_MAX)
                    .serve_connection(TokioIo::new(stream), service);
                let limit = tokio::time::timeout(CONNECTION_TIME_MAX, progress.stalled());
                tokio::select! {
                    outcome = connection => if let Err(error) = outcome {
                        debug!(%error, "connection to the metrics address failed");
                    },
                    _ = limit => debug!("closed a connection to the metrics address"),
                }
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        scrapes: &Scrapes,
        health: &LastHealth,
        progress: &Progress,
    ) -> Result<Response<Answer>, Infallible> {
        Ok(match request.uri().path() {
            "/metrics" => metrics(scrapes, progress).await,
            "/healthz" => self.health(health).await,
            "/readyz" => self.readiness(),
            _ => text(StatusCode::NOT_FOUND, "not found\n"),
        })
    }

    /// Whether a restart would help: the loop is stuck or a worker has died. A daemon that drains
    /// is healthy. However many clients ask, the loop is asked a few times a second.
    async fn health(&self, last: &LastHealth) -> Response<Answer> {
        if self.readiness.0.load(Ordering::Relaxed) == DRAINING {
            return text(StatusCode::OK, "draining\n");
        }
        let mut last = last.lock().await;
        let (status, words) = match *last {
            Some((at, health)) if at.elapsed() < HEALTH_AGE_MAX => health,
            _ => {
                let health = self.ask_health().await;
                *last = Some((Instant::now(), health));
                health
            }
        };
        text(status, words)
    }

    async fn ask_health(&self) -> (StatusCode, &'static str) {
        let (question, answer) = oneshot::channel();
        let asked = async {
            self.questions.send(Question::Status(question)).await.ok()?;
            answer.await.ok()
        };
        match tokio::time::timeout(LOOP_TIME_MAX, asked).await {
            Ok(Some(status)) if status.workers.iter().all(|worker| worker.is_running) => {
                (StatusCode::OK, "ok\n")
            }
            Ok(Some(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "a worker has died\n"),
            Ok(None) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "control is stuck\n"),
        }
    }

    fn readiness(&self) -> Response<Answer> {
        match self.readiness.0.load(Ordering::Relaxed) {
            READY => text(StatusCode::OK, "ok\n"),
            DRAINING => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            _ => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

async fn metrics(scrapes: &Scrapes, progress: &Progress) -> Response<Answer> {
    match scrapes.body(progress).await {
        Ok(body) => {
            let mut response = Response::new(body.boxed_unsync());
            let format = HeaderValue::from_static(prometheus::TEXT_FORMAT);
            response.headers_mut().insert(CONTENT_TYPE, format);
            response
        }
        Err(Unavailable::Starting) => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        Err(Unavailable::Failed) => text(StatusCode::INTERNAL_SERVER_ERROR, "metrics failed\n"),
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<Answer> {
    let mut response = Response::new(Full::from(text).boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

/// The state of the loop and the workers, and when it was asked for.
type LastHealth = Arc<Mutex<Option<(Instant, (StatusCode, &'static str))>>>;

/// For how long that holds.
const HEALTH_AGE_MAX: Duration = Duration::from_millis(250);

/// Bytes that are buffered for one connection; larger parts of a body are not copied.
const BUFFER_BYTES_MAX: usize = 16 << 10;

/// The body of an answer.
type Answer = UnsyncBoxBody<Bytes, Infallible>;

const READY: u8 = 1;
const DRAINING: u8 = 2;

/// Connections to the admin port; further ones wait.
const CONNECTIONS_MAX: usize = 64;

/// For which one connection is served, idle or not.
const CONNECTION_TIME_MAX: Duration = Duration::from_mins(1);

/// How long the app's loop may be busy before it counts as stuck: the longest change that it has to
/// translate is far shorter.
const LOOP_TIME_MAX: Duration = Duration::from_secs(5);
