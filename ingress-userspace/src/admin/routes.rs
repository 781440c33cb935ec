//! The paths of the admin sockets, in one table.
//!
//! All requests but POST on the Unix socket only read. Every client that reaches the TCP socket may read names of objects, and nothing
//! of their contents. Paths for the node's administrator are on the Unix socket alone.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use ingress_core::explain::Question;
use jiff::Timestamp;
use serde::Serialize;
use tokio::sync::{Mutex, mpsc};
use tracing::info;

use super::questions::Questions;
use super::readiness::{MetricsSlot, Readiness, State};
use super::scrape::{Progress, Scrapes, Unavailable};
use super::tail;
use super::{
    AdminRequest, CERTIFICATES, DASHBOARD_URL, DENY_NETWORK, DENY_SECONDS, DRAIN, DenyChange,
    ENDPOINTS, EXPLAIN_FIELD, EXPLAIN_FROM, EXPLAIN_HOST, EXPLAIN_METHOD, EXPLAIN_PATH,
    EXPLAIN_SCHEME, EXPLAIN_SNI, LOG, LOG_FILTER, LOG_LEVEL, RESUME, ROUTES, TAIL,
    TRAFFIC_BACKENDS, TRAFFIC_HOSTS, TRAFFIC_ROUTES,
};
use crate::proxy::{MetricsFormat, Tail, TrafficBy};
use crate::telemetry;

/// The clients of an admin socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Clients of the Unix socket: root.
    Root,
    /// Clients of the TCP socket.
    Network,
}

/// The answers, for both sockets.
#[derive(Clone)]
pub(super) struct Routes {
    readiness: Readiness,
    questions: Questions,
    scrapes: Scrapes,
    tail: Tail,
    health: LastHealth,
}

impl Routes {
    pub(super) fn new(
        readiness: Readiness,
        metrics: MetricsSlot,
        tail: Tail,
        questions: mpsc::Sender<AdminRequest>,
    ) -> Self {
        Self {
            readiness,
            scrapes: Scrapes::new(metrics.clone(), questions.clone()),
            questions: Questions::new(questions, metrics),
            tail,
            health: LastHealth::default(),
        }
    }

    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
        audience: Audience,
        progress: &Progress,
    ) -> Response<Answer> {
        if request.method() == Method::POST && audience == Audience::Root {
            return self.change(&request).await;
        }
        let answer = match (audience, request.uri().path()) {
            (_, "/metrics") => Some(metrics(&self.scrapes, &request, progress).await),
            (_, "/healthz") => Some(self.health(&self.health).await),
            (_, "/readyz") => Some(self.readiness()),
            (Audience::Root, "/status") => json(self.questions.status().await),
            (Audience::Root, ROUTES) => json(self.questions.routes().await),
            (Audience::Root, ENDPOINTS) => json(self.questions.endpoints().await),
            (Audience::Root, CERTIFICATES) => {
                json(self.questions.certificates(Timestamp::now()).await)
            }
            (Audience::Root, TRAFFIC_HOSTS) => json(self.questions.traffic(TrafficBy::Host).await),
            (Audience::Root, TRAFFIC_BACKENDS) => {
                json(self.questions.traffic(TrafficBy::Backend).await)
            }
            (Audience::Root, TRAFFIC_ROUTES) => {
                json(self.questions.traffic(TrafficBy::Route).await)
            }
            (Audience::Root, LOG) => {
                let lines = Full::from(telemetry::recent_lines());
                Some(Response::new(lines.boxed_unsync()))
            }
            (Audience::Root, TAIL) => Some(tail::follow(&request, &self.tail, progress)),
            (Audience::Root, "/deny") => deny_response(&request, &self.questions).await,
            (Audience::Root, "/explain") => explain_response(&request, &self.questions).await,
            _ => None,
        };
        answer.unwrap_or_else(|| text(StatusCode::NOT_FOUND, "not found\n"))
    }

    /// Changes the daemon as its operator wants.
    async fn change(&self, request: &Request<Incoming>) -> Response<Answer> {
        match request.uri().path() {
            DRAIN => self.readiness.set_aside(true),
            RESUME => self.readiness.set_aside(false),
            LOG_LEVEL => {
                let filter = request.headers().get(LOG_FILTER);
                let filter = filter.and_then(|filter| filter.to_str().ok());
                if let Err(problem) = telemetry::set_filter(filter.unwrap_or_default()) {
                    let mut response = Response::new(Full::from(problem).boxed_unsync());
                    *response.status_mut() = StatusCode::BAD_REQUEST;
                    return response;
                }
            }
            DASHBOARD_URL => {
                return match self.questions.dashboard_url().await.flatten() {
                    Some(url) => Response::new(Full::from(url).boxed_unsync()),
                    None => text(StatusCode::NOT_FOUND, NO_DASHBOARD),
                };
            }
            _ => return text(StatusCode::NOT_FOUND, "not found\n"),
        }
        let change = request.uri().path();
        info!(change, "the operator changed the daemon");
        text(StatusCode::OK, "done\n")
    }

    /// Whether a restart would help: the loop is stuck or a worker has died. A daemon that drains
    /// is healthy. However many clients ask, the loop is asked a few times a second.
    async fn health(&self, last: &LastHealth) -> Response<Answer> {
        if self.readiness.state() == State::Draining {
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
        match tokio::time::timeout(LOOP_TIME_MAX, self.questions.status()).await {
            Ok(Some(status)) if status.workers.iter().all(|worker| worker.is_running) => {
                (StatusCode::OK, "ok\n")
            }
            Ok(Some(_)) => (StatusCode::INTERNAL_SERVER_ERROR, "a worker has died\n"),
            Ok(None) | Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "control is stuck\n"),
        }
    }

    fn readiness(&self) -> Response<Answer> {
        match self.readiness.state() {
            State::Ready => text(StatusCode::OK, "ok\n"),
            State::Draining => text(StatusCode::SERVICE_UNAVAILABLE, "draining\n"),
            State::Starting => text(StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
        }
    }
}

async fn metrics(
    scrapes: &Scrapes,
    request: &Request<Incoming>,
    progress: &Progress,
) -> Response<Answer> {
    let accept = request.headers().get(ACCEPT);
    let accept = accept.and_then(|accept| accept.to_str().ok());
    let format = MetricsFormat::of_accept(accept.unwrap_or_default());
    match scrapes.body(format, progress).await {
        Ok(body) => {
            let mut response = Response::new(body.boxed_unsync());
            let format = HeaderValue::from_static(format.content_type());
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

/// The parts of the request to explain are headers: they need no escaping there. `None` for one that
/// cannot be read.
async fn explain_response(
    request: &Request<Incoming>,
    questions: &Questions,
) -> Option<Response<Answer>> {
    let question = question(request.headers())?;
    json(questions.explain(question).await)
}

fn question(fields: &HeaderMap) -> Option<Question> {
    let header = |name| fields.get(name).map(HeaderValue::to_str).transpose().ok();
    let mut question = Question::new(header(EXPLAIN_HOST)??, header(EXPLAIN_PATH)??);
    if let Some(method) = header(EXPLAIN_METHOD)? {
        method.clone_into(&mut question.method);
    }
    question.sni = header(EXPLAIN_SNI)?.map(str::to_owned);
    question.is_https = header(EXPLAIN_SCHEME)?.map(|scheme| scheme == "https");
    if let Some(client) = header(EXPLAIN_FROM)? {
        question.client = Some(client.parse().ok()?);
    }
    for field in fields.get_all(EXPLAIN_FIELD) {
        let (name, value) = field.to_str().ok()?.split_once(':')?;
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        question.headers.append(name, value.parse().ok()?);
    }
    Some(question)
}

/// Network and time of a change are headers, for the same reason.
async fn deny_response(
    request: &Request<Incoming>,
    questions: &Questions,
) -> Option<Response<Answer>> {
    let header = |name| request.headers().get(name)?.to_str().ok();
    let network = || header(DENY_NETWORK)?.parse().ok();
    let change = match *request.method() {
        Method::PUT => DenyChange::Add {
            network: network()?,
            seconds: match header(DENY_SECONDS) {
                Some(seconds) => Some(seconds.parse().ok()?),
                None => None,
            },
        },
        Method::DELETE => DenyChange::Remove {
            network: network()?,
        },
        Method::GET => DenyChange::None,
        _ => return None,
    };
    json(questions.deny(change).await)
}

/// `None` for an answer that the daemon does not give any more.
fn json(answer: Option<impl Serialize>) -> Option<Response<Answer>> {
    let json = serde_json::to_vec(&answer?).ok()?;
    Some(Response::new(Full::from(json).boxed_unsync()))
}

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The state of the loop and the workers, and when it was asked for.
type LastHealth = Arc<Mutex<Option<(Instant, (StatusCode, &'static str))>>>;

const NO_DASHBOARD: &str =
    "the daemon has no dashboard (see --dashboard-address), or one without tokens\n";

/// For how long that holds.
const HEALTH_AGE_MAX: Duration = Duration::from_millis(250);

/// How long the app's loop may be busy before it counts as stuck: the longest change that it has to
/// translate is far shorter.
const LOOP_TIME_MAX: Duration = Duration::from_secs(5);
