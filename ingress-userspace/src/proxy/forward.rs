//! One request from its head to the head of its response.
//!
//! Route, backend, endpoint, exchange; every way that this can fail is a [`Failure`], which becomes
//! an answer of our own in one place.

use std::rc::Rc;

use http::header::UPGRADE;
use http::{Method, Request, Response, StatusCode, Version, request, response};
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use ingress_core::ir::UpstreamProtocol;

use super::backend::Destination;
use super::body::{Carrier, RequestBody, ResponseBody};
use super::connection::{Connection, InFlight};
use super::error::{BadRequest, Failure};
use super::exchange::{Exchange, Reply};
use super::io::Activity;
use super::pool::Backend;
use super::response::Dialect;
use super::upgrade::Upgrade;
use super::upstream::Patience;
use super::worker::WorkerState;
use super::{request as head, response as answer};

/// Answers a request, one way or another.
pub(super) async fn respond(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let in_flight = connection.begin();
    let counters = connection.worker.counters.datapath(connection.datapath);
    counters.requests.increment();
    let dialect = Dialect::of(&request);
    let is_http1 = request.version() != Version::HTTP_2;
    let mut is_last = asks_upgrade(&request);
    let mut response = match forward(&connection, request).await {
        Ok(answer) => {
            let response = answer.into_response(in_flight);
            counters.respond(response.status());
            response
        }
        Err(failure) => {
            tracing::debug!(error = &failure as &dyn std::error::Error, "request failed");
            counters.respond(failure.status());
            // Whoever sends one request that is none is not to be trusted with a second.
            is_last |= is_http1 && matches!(failure, Failure::BadRequest(_));
            answer::failure(&failure, dialect, in_flight)
        }
    };
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What follows the request may not be meant as HTTP.
        answer::close(&mut response);
    }
    response
}

/// Whether an HTTP/1 request has an `Upgrade` field: for HTTP/1.1, hyper has seen it.
fn asks_upgrade<B>(request: &Request<B>) -> bool {
    match request.version() {
        Version::HTTP_11 => request.extensions().get::<OnUpgrade>().is_some(),
        Version::HTTP_10 => request.headers().contains_key(UPGRADE),
        _ => false,
    }
}

/// What an endpoint has answered.
enum Answer {
    /// A response head, with all that is needed to read its body.
    Response {
        response: Response<Incoming>,
        carrier: Carrier,
        patience: Patience,
    },
    /// It has left HTTP, and this is what the client gets to see of that.
    Switched(response::Parts),
}

impl Answer {
    fn into_response(self, in_flight: InFlight) -> Response<ResponseBody> {
        match self {
            Self::Response {
                response,
                carrier,
                patience,
            } => {
                let (mut head, incoming) = response.into_parts();
                answer::rewrite(&mut head);
                let body = ResponseBody::upstream(incoming, carrier, patience, in_flight);
                Response::from_parts(head, body)
            }
            Self::Switched(head) => Response::from_parts(head, ResponseBody::text("", in_flight)),
        }
    }
}

async fn forward(
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let worker = &connection.worker;
    let (mut head, incoming) = request.into_parts();
    let backend = backend(worker, &head)?;
    let now = worker.timers.now();
    let load = worker.pool.pick(&backend, &[], worker.random(), now);
    let load = load.ok_or(Failure::NoEndpoint)?;
    backend.deposit();
    let is_multiplexed = load.protocol.is_multiplexed();
    let activity = is_multiplexed.then(|| Activity::new(Rc::clone(&worker.timers)));
    let (body, upload) = RequestBody::new(incoming, activity.as_ref());
    let upgrade = rewrite(&mut head, connection, load.protocol, upload.is_none())?;
    let request = Request::from_parts(head, body);
    let mut patience = Patience::new(&worker.timers, worker.timeouts.response_head);
    let exchange = Exchange {
        worker,
        backend,
        upload,
        may_switch: upgrade.is_some(),
        activity,
    };
    // What is rare is boxed: requests are moved, and their futures with them.
    let outcome = if is_multiplexed {
        Box::pin(exchange.over_http2(load, request, &mut patience)).await
    } else {
        exchange.over_http1(load, request, &mut patience).await
    };
    let Reply { response, carrier } = match outcome {
        Ok(reply) => reply,
        Err(miss) => Box::pin(exchange.elsewhere(miss, &mut patience)).await?,
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        let upgrade = upgrade.ok_or(Failure::Switched)?;
        let head = upgrade.accept(response, carrier, connection)?;
        return Ok(Answer::Switched(head));
    }
    if upgrade.is_some_and(|upgrade| !upgrade.may_be_refused_with(response.status())) {
        return Err(Failure::NotSwitched);
    }
    patience.set_limit(worker.timeouts.body_idle);
    Ok(Answer::Response {
        response,
        carrier,
        patience,
    })
}

/// Makes a head that came from a client the one for an endpoint, and returns what to switch to if
/// the endpoint agrees.
fn rewrite(
    head: &mut request::Parts,
    connection: &Connection,
    protocol: UpstreamProtocol,
    is_bodyless: bool,
) -> Result<Option<Upgrade>, Failure> {
    let mut upgrade = None;
    if head.method == Method::CONNECT {
        if protocol.is_multiplexed() {
            return Err(Failure::NoTunnel);
        }
        upgrade = Upgrade::of_connect(head, connection.worker.nonce());
        upgrade.as_ref().ok_or(BadRequest::Connect)?;
    }
    let protocols = head::rewrite(head, connection);
    if protocol.is_multiplexed() {
        // Upgrades are not for HTTP/2 (RFC 9113 §8.2.2), and a client may be ignored.
        head::rewrite_for_http2(head, protocol)?;
        return Ok(None);
    }
    // Where a request with a body ends and a tunnel begins is for the endpoint to say; so the
    // client may not ask (RFC 9110 §7.8 lets anybody ignore it).
    if let Some(protocols) = protocols.filter(|_| is_bodyless) {
        upgrade = Upgrade::of_http1(protocols);
    }
    if let Some(upgrade) = &upgrade {
        upgrade.write(&mut head.headers);
    }
    Ok(upgrade)
}

/// The backend that a request is for.
fn backend(worker: &WorkerState, head: &request::Parts) -> Result<Rc<Backend>, Failure> {
    let authority = head::authority(head)?;
    let mut table = worker.table.borrow_mut();
    let route = table
        .load()
        .routes()
        .find(authority, head.uri.path())
        .ok_or(Failure::NoRoute)?;
    match &route.payload {
        Destination::Backend(slot) => Ok(worker.pool.backend(slot, worker.timers.now())),
        Destination::Unavailable => Err(Failure::Unavailable),
    }
}
