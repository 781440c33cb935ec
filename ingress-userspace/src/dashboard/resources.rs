//! The data of the pages: `GET /api/v1/…`, with the values that the command line prints.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use ingress_common::verdict::{Reason, Verdict};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{Notify, mpsc};

use super::State;
use super::feed::Source;
use super::nodes::{self, Nodes};
use super::policy::{Caching, protect};
use super::server::{Answer, FrameBody, compressed, problem};
use super::sessions::Rights;
use super::stream::{Followed, STREAMS_MAX, Stream};
use super::topics::{Topic, Topics, question, tail_filter};
use crate::admin::Questions;
use crate::api::PacketReason;
use crate::proxy::TrafficBy;

/// Text, and the media type of streams.
const EVENT_STREAM: &str = "text/event-stream; charset=utf-8";

impl State {
    /// Answers a request for data.
    pub(super) async fn data(
        self: &Arc<Self>,
        resource: &str,
        request: &Request<Incoming>,
        ended: &Arc<Notify>,
    ) -> Response<Answer> {
        let fields = request.headers();
        let Some(rights) = self.rights(fields) else {
            return self.unauthorised();
        };
        let query = request.uri().query().unwrap_or_default();
        let feed = &self.feed;
        match resource {
            "session" => give(fields, Some(self.session(rights))).await,
            "samples" => give(fields, Some(feed.samples())).await,
            "problems" => give(fields, Some(feed.problems())).await,
            "generations" => give(fields, Some(feed.generations())).await,
            "uses" => give(fields, Some(feed.last_uses())).await,
            "reasons" => give(fields, Some(reasons())).await,
            "stream" => self.stream(query, rights, fields, ended),
            _ => match feed.source() {
                Source::Daemon(questions) => {
                    self.of_daemon(questions, resource, fields, query).await
                }
                Source::Nodes(nodes) => of_nodes(nodes, resource, fields, query).await,
            },
        }
    }

    async fn of_daemon(
        &self,
        questions: &Questions,
        resource: &str,
        fields: &HeaderMap,
        query: &str,
    ) -> Response<Answer> {
        match resource {
            "status" => give(fields, questions.status().await).await,
            "routes" => give(fields, questions.routes().await).await,
            "endpoints" => give(fields, questions.endpoints().await).await,
            "certificates" => {
                let now = Timestamp::now();
                give(fields, questions.certificates(now).await).await
            }
            "traffic/hosts" => give(fields, questions.traffic(TrafficBy::Host).await).await,
            "traffic/backends" => give(fields, questions.traffic(TrafficBy::Backend).await).await,
            "traffic/routes" => give(fields, questions.traffic(TrafficBy::Route).await).await,
            "explain" => self.explain(questions, fields, query).await,
            _ => no_resource(),
        }
    }

    fn session(&self, rights: Rights) -> Value {
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "instance": self.instance,
            "tail": self.has_tail() && rights.tail,
            "tail_is_on": self.has_tail(),
            "is_of_nodes": self.feed.is_of_nodes(),
        })
    }

    /// Whether requests can be followed.
    fn has_tail(&self) -> bool {
        self.tail.is_some() || self.feed.is_of_nodes()
    }

    /// Tells the page how to log in.
    fn unauthorised(&self) -> Response<Answer> {
        let auth = match self.reviewer {
            None if self.feed.is_of_nodes() => "nodes",
            None => "token",
            Some(_) => "kubernetes",
        };
        let mut response = super::server::json(&json!({
            "error": "no session, or one that has ended",
            "auth": auth,
            "instance": self.instance,
        }));
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        response
    }

    async fn explain(
        &self,
        questions: &Questions,
        fields: &HeaderMap,
        query: &str,
    ) -> Response<Answer> {
        let question = match question(query) {
            Ok(question) => question,
            Err(error) => return problem(StatusCode::BAD_REQUEST, &error),
        };
        let Ok(_one) = self.explaining.acquire().await else {
            return problem(StatusCode::SERVICE_UNAVAILABLE, ENDING);
        };
        match questions.explain(question).await {
            Some(None) => problem(
                StatusCode::SERVICE_UNAVAILABLE,
                "the daemon serves nothing yet: it has not read all objects",
            ),
            answer => give(fields, answer).await,
        }
    }

    fn stream(
        self: &Arc<Self>,
        query: &str,
        rights: Rights,
        fields: &HeaderMap,
        ended: &Arc<Notify>,
    ) -> Response<Answer> {
        let topics = Topics::of(query);
        let Ok(permit) = Arc::clone(&self.streams).try_acquire_owned() else {
            let text =
                format!("{STREAMS_MAX} pages already watch this daemon; close one of them first");
            return problem(StatusCode::SERVICE_UNAVAILABLE, &text);
        };
        let tail = match self.follow(&topics, query, rights) {
            Ok(tail) => tail,
            Err((status, text)) => return problem(status, &text),
        };
        let last = fields.get("last-event-id");
        let last = last.and_then(|last| last.to_str().ok());
        let is_resumed = last.map(|last| {
            let instance = last.rsplit_once('-').map(|(instance, _)| instance);
            instance == Some(&*self.instance)
        });
        let mut hello = self.session(rights);
        hello["is_resumed"] = json!(is_resumed);
        let (sender, frames) = mpsc::channel::<Bytes>(1);
        let stream = Stream {
            topics,
            tail,
            hello,
            instance: self.instance.clone(),
            permit,
        };
        let state = Arc::clone(self);
        let ended = Arc::clone(ended);
        tokio::spawn(async move { stream.run(&state.feed, sender, ended).await });
        let mut response = Response::new(FrameBody(frames).boxed_unsync());
        let answer = response.headers_mut();
        protect(answer, Caching::Never);
        answer.insert("content-type", HeaderValue::from_static(EVENT_STREAM));
        response
    }

    /// The requests to follow, if the stream is to carry any.
    fn follow(
        &self,
        topics: &Topics,
        query: &str,
        rights: Rights,
    ) -> Result<Option<Followed>, (StatusCode, String)> {
        if !topics.contain(Topic::Tail) {
            return Ok(None);
        }
        if !self.has_tail() {
            let text = "requests cannot be followed: --dashboard-tail=false";
            return Err((StatusCode::FORBIDDEN, text.to_owned()));
        }
        if !rights.tail {
            let text = "your user may not get /sluice/tail";
            return Err((StatusCode::FORBIDDEN, text.to_owned()));
        }
        let filter = tail_filter(query).map_err(|error| (StatusCode::BAD_REQUEST, error))?;
        if let Source::Nodes(nodes) = self.feed.source() {
            return Ok(Some(Followed::Nodes(nodes.follow(filter))));
        }
        let reader = self.tail.as_ref().map(|tail| tail.watch(filter));
        let refused = |error: crate::proxy::TooManyWatchers| {
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        };
        let reader = reader.transpose().map_err(refused)?;
        Ok(reader.map(Followed::Daemon))
    }
}

/// Answers a request for data of several nodes.
async fn of_nodes(
    nodes: &Nodes,
    resource: &str,
    fields: &HeaderMap,
    query: &str,
) -> Response<Answer> {
    let look = || nodes.look(Timestamp::now().to_string());
    match resource {
        "status" => give(fields, Some(look().status)).await,
        "nodes" => give(fields, look().status.remove("nodes")).await,
        "traffic/hosts" => give(fields, Some(look().hosts)).await,
        "traffic/backends" => give(fields, Some(look().backends)).await,
        "traffic/routes" => give(fields, Some(look().routes)).await,
        "routes" | "endpoints" | "certificates" => {
            let (answers, reasons) = nodes.ask(resource, "").await;
            give_of_nodes(fields, &reasons, &nodes::rows(&answers), &answers).await
        }
        "explain" => {
            if let Err(error) = question(query) {
                return problem(StatusCode::BAD_REQUEST, &error);
            }
            let (answers, reasons) = nodes.ask(resource, query).await;
            give_of_nodes(fields, &reasons, &nodes::answers(&answers), &answers).await
        }
        _ => no_resource(),
    }
}

/// The answers of nodes; if no node answered, the reasons.
async fn give_of_nodes(
    fields: &HeaderMap,
    reasons: &[String],
    joined: &[Value],
    answers: &[(String, Value)],
) -> Response<Answer> {
    if answers.is_empty() {
        let text = if reasons.is_empty() {
            "no node is reached".to_owned()
        } else {
            reasons.join("; ")
        };
        return problem(StatusCode::BAD_GATEWAY, &text);
    }
    give(fields, Some(joined)).await
}

fn no_resource() -> Response<Answer> {
    problem(StatusCode::NOT_FOUND, "there is no such resource")
}

async fn give<T: Serialize>(fields: &HeaderMap, value: Option<T>) -> Response<Answer> {
    match value {
        Some(value) => compressed(fields, &value).await,
        None => problem(StatusCode::SERVICE_UNAVAILABLE, ENDING),
    }
}

fn reasons() -> Vec<PacketReason> {
    let all = Reason::ALL.iter().map(|reason| PacketReason {
        reason: reason.label().to_owned(),
        verdict: match reason.verdict() {
            Verdict::Pass => "pass",
            Verdict::Redirect => "redirect",
            Verdict::Drop => "drop",
        }
        .to_owned(),
        meaning: reason.meaning().trim().to_owned(),
    });
    all.collect()
}

const ENDING: &str = "the daemon is about to end";
