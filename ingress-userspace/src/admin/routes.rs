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
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::spawn_blocking;
use tracing::info;

use super::readiness::{MetricsSlot, Readiness, State};
use super::scrape::{Progress, Scrapes, Unavailable};
use super::tail;
use super::{
    AdminRequest, CERTIFICATES, DENY_NETWORK, DENY_SECONDS, DRAIN, DenyChange, ENDPOINTS,
    EXPLAIN_FIELD, EXPLAIN_FROM, EXPLAIN_HOST, EXPLAIN_METHOD, EXPLAIN_PATH, EXPLAIN_SCHEME,
    EXPLAIN_SNI, LOG, LOG_FILTER, LOG_LEVEL, Published, RESUME, ROUTES, TAIL, TRAFFIC_BACKENDS,
    TRAFFIC_HOSTS,
};
use crate::api::{Traffic, certificates, endpoints, routes};
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
    /// Asks the app's loop.
    questions: mpsc::Sender<AdminRequest>,
    metrics: MetricsSlot,
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
            questions,
            metrics,
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
            return self.change(&request);
        }
        let answer = match (audience, request.uri().path()) {
            (_, "/metrics") => Some(metrics(&self.scrapes, &request, progress).await),
            (_, "/healthz") => Some(self.health(&self.health).await),
            (_, "/readyz") => Some(self.readiness()),
            (Audience::Root, "/status") => status_response(&self.questions).await,
            (Audience::Root, ROUTES) => self.list(|published| routes(&published.config)).await,
            (Audience::Root, ENDPOINTS) => {
                let list =
                    |published: &Published| endpoints(&published.config, &published.reach.direct);
                self.list(list).await
            }
            (Audience::Root, CERTIFICATES) => {
                let now = Timestamp::now();
                self.list(|published| certificates(&published.config, now))
                    .await
            }
            (Audience::Root, TRAFFIC_HOSTS) => self.traffic(TrafficBy::Host).await,
            (Audience::Root, TRAFFIC_BACKENDS) => self.traffic(TrafficBy::Backend).await,
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
    fn change(&self, request: &Request<Incoming>) -> Response<Answer> {
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
            _ => return text(StatusCode::NOT_FOUND, "not found\n"),
        }
        let change = request.uri().path();
        info!(change, "the operator changed the daemon");
        text(StatusCode::OK, "done\n")
    }

    /// A list of what is published, made here: the loop hands out pointers only.
    async fn list<T: Serialize>(
        &self,
        list: impl FnOnce(&Published) -> Vec<T>,
    ) -> Option<Response<Answer>> {
        let (question, answer) = oneshot::channel();
        let sent = self.questions.send(AdminRequest::Published(question));
        sent.await.ok()?;
        json(&list(&answer.await.ok()?))
    }

    /// Sums of requests; none before there are workers.
    async fn traffic(&self, by: TrafficBy) -> Option<Response<Answer>> {
        let traffic = match self.metrics.load() {
            Some(metrics) => spawn_blocking(move || metrics.traffic(by)).await.ok()?,
            None => Vec::new(),
        };
        json(&traffic.into_iter().map(Traffic::from).collect::<Vec<_>>())
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
        let (question, answer) = oneshot::channel();
        let asked = async {
            self.questions
                .send(AdminRequest::Status(question))
                .await
                .ok()?;
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

async fn status_response(questions: &mpsc::Sender<AdminRequest>) -> Option<Response<Answer>> {
    let (question, answer) = oneshot::channel();
    questions.send(AdminRequest::Status(question)).await.ok()?;
    json(&answer.await.ok()?)
}

/// The parts of the request to explain are headers: they need no escaping there. `None` for one that
/// cannot be read.
async fn explain_response(
    request: &Request<Incoming>,
    questions: &mpsc::Sender<AdminRequest>,
) -> Option<Response<Answer>> {
    let (answer, explanation) = oneshot::channel();
    let question = AdminRequest::Explain {
        question: Box::new(question(request.headers())?),
        answer,
    };
    questions.send(question).await.ok()?;
    json(&explanation.await.ok()?)
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
    questions: &mpsc::Sender<AdminRequest>,
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
    let (answer, entries) = oneshot::channel();
    let question = AdminRequest::Deny { change, answer };
    questions.send(question).await.ok()?;
    json(&entries.await.ok()?)
}

fn json(answer: &impl Serialize) -> Option<Response<Answer>> {
    let json = serde_json::to_vec(answer).ok()?;
    Some(Response::new(Full::from(json).boxed_unsync()))
}

/// The body of an answer.
pub(super) type Answer = UnsyncBoxBody<Bytes, Infallible>;

/// The state of the loop and the workers, and when it was asked for.
type LastHealth = Arc<Mutex<Option<(Instant, (StatusCode, &'static str))>>>;

/// For how long that holds.
const HEALTH_AGE_MAX: Duration = Duration::from_millis(250);

/// How long the app's loop may be busy before it counts as stuck: the longest change that it has to
/// translate is far shorter.
const LOOP_TIME_MAX: Duration = Duration::from_secs(5);
