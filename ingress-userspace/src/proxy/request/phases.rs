//! One request from its head to the head of its response, phase by phase.
//!
//! route → authorize → filter the request → pick an endpoint → prepare the head → send (attempts,
//! retries) → filter the response → record. Each phase is a file; every way in which one can fail is
//! a [`Failure`], which becomes an answer of our own in one place.

use std::rc::Rc;

use http::header::{SET_COOKIE, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode, Version, response};
use hyper::upgrade::OnUpgrade;

use crate::proxy::downstream::client_body::Incoming;
use crate::proxy::downstream::connection::{Connection, InFlight};
use crate::proxy::observe::metrics::account::Account;
use crate::proxy::request::attempt::{Exchange, Reply};
use crate::proxy::request::body::{RequestBody, ResponseBody};
use crate::proxy::request::client::Client;
use crate::proxy::request::error::Failure;
use crate::proxy::request::filter::{self, FilterInput, Filtered, ResponseFilters};
use crate::proxy::request::prepare::Prepare;
use crate::proxy::request::response::Dialect;
use crate::proxy::request::retry::Again;
use crate::proxy::request::route::{RouteDecision, Routed};
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::request::{grpc_timeout, head, outcome, pick, response as answer, route};
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::tls::client_auth;
use crate::proxy::upstream::affinity::Session;
use crate::proxy::upstream::response_source::Carrier;
use crate::proxy::upstream::response_timeout::Patience;
use crate::proxy::upstream::timeouts::Waits;

/// Answers a request, one way or another.
pub(crate) async fn respond(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let worker = &connection.worker;
    let host = head::host_in(&request);
    (worker.table.borrow_mut().load().routes()).prefetch(&worker.recent_routes.borrow(), host);
    let client = worker.clients.identify(&connection, request.headers());
    let account = Account::open(&connection, &client, &request);
    let in_flight = connection.begin(account.clone());
    let counters = connection.worker.counters.datapath(connection.datapath);
    counters.requests.increment();
    let dialect = Dialect::of(&request);
    let is_http1 = request.version() != Version::HTTP_2;
    let mut is_last = asks_upgrade(&request);
    let filters = ResponseFilters::default();
    let mut response = match forward(&connection, request, &client, &account, &filters).await {
        Ok(answer) => answer.into_response(in_flight, is_http1),
        Err(failure) => {
            tracing::debug!(error = &failure as &dyn std::error::Error, "request failed");
            // A client that sends one malformed request is not trusted with a second.
            is_last |= is_http1 && matches!(failure, Failure::BadRequest(_));
            answer::failure(&failure, dialect, in_flight)
        }
    };
    counters.respond(response.status());
    filters.apply(response.headers_mut(), || {
        filter::is_https(&connection, &client)
    });
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What follows the request may not be meant as HTTP.
        answer::close(&mut response);
    }
    account.respond(&response);
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
        response: Response<()>,
        carrier: Carrier,
        patience: Patience,
        /// The cookie of a session that has begun or moved.
        cookie: Option<HeaderValue>,
    },
    /// It has left HTTP, and this is what the client gets to see of that.
    Switched(response::Parts),
}

impl Answer {
    fn into_response(self, in_flight: InFlight, is_http1: bool) -> Response<ResponseBody> {
        match self {
            Self::Response {
                response,
                carrier,
                patience,
                cookie,
            } => {
                let (mut head, ()) = response.into_parts();
                answer::rewrite(&mut head);
                if let Some(cookie) = cookie {
                    head.headers.append(SET_COOKIE, cookie);
                }
                let body = ResponseBody::upstream(carrier, patience, in_flight, is_http1);
                Response::from_parts(head, body)
            }
            Self::Switched(head) => Response::from_parts(head, ResponseBody::text("", in_flight)),
        }
    }
}

async fn forward(
    connection: &Rc<Connection>,
    request: Request<Incoming>,
    client: &Client,
    account: &Account,
    response_filters: &ResponseFilters,
) -> Result<Answer, Failure> {
    let worker = &connection.worker;
    let deadline = grpc_timeout::of(&request, worker.timers.now());
    let (mut head, mut incoming) = request.into_parts();
    let RouteDecision {
        authority,
        path,
        destination,
        client_auth,
        filters,
        timeouts,
        retries,
        body_bytes_max,
    } = route::route(connection, &head, &incoming, account)?;
    let policy = client_auth.as_ref();
    let shown = policy.map(|policy| client_auth::admit(connection, policy));
    let shown = shown.transpose()?;
    let mut filtered = Filtered::default();
    if let Some(filters) = &filters {
        response_filters.set(filters);
        let input = FilterInput {
            connection,
            client,
            authority,
            path: &path,
        };
        filtered = filter::on_request(filters, &head.uri, input)?;
    }
    let backend = match destination {
        Routed::Backend(backend) => backend,
        Routed::Respond(answer) => return Err(Failure::Answered(Box::new(answer))),
        Routed::Unavailable => return Err(Failure::Unavailable),
    };
    filtered.apply(&mut head)?;
    let session = Session::of(&backend, &head.headers, worker);
    let wish = pick::hint(&backend, session.as_ref(), &head, client);
    let load = pick::pick(worker, &backend, wish).await?;
    backend.deposit();
    account.try_first(load.address);
    let is_multiplexed = load.protocol.is_multiplexed();
    let activity = is_multiplexed.then(|| Activity::new(Rc::clone(&worker.timers)));
    let tunnel = incoming.take_tunnel(&head.method);
    let (mut body, upload) = RequestBody::new(incoming, activity.as_ref(), body_bytes_max);
    account.uploads(upload.as_ref());
    let prepare = Prepare {
        connection,
        client,
        account,
        is_bodyless: upload.is_none(),
        shown,
        host: filtered.host,
    };
    let (upgrade, lines) = prepare.run(&mut head, load.protocol, tunnel)?;
    body.introduce(lines);
    let mut request = Request::from_parts(head, body);
    let waits = Waits::new(worker.pool.timeouts(), timeouts);
    let mut patience = Patience::new(&worker.timers, &waits, deadline, upload.clone());
    let mut exchange = Exchange {
        worker,
        account,
        again: Again::new(retries, &mut request, upgrade.is_some()),
        backend,
        wish,
        retries,
        connect_timeout: waits.connect,
        upload,
        may_switch: upgrade.is_some(),
        first: load.address,
        tried: Vec::new(),
        protocol: load.protocol,
        activity,
    };
    // What is rare is boxed: requests are moved, and their futures with them.
    let outcome = if is_multiplexed {
        Box::pin(exchange.over_http2(load, request, &mut patience)).await
    } else {
        exchange.over_http1(load, request, &mut patience).await
    };
    let Reply { response, carrier } = match outcome {
        Ok(reply) if exchange.again.is_none() => reply,
        outcome => Box::pin(exchange.elsewhere(outcome, &mut patience)).await?,
    };
    let endpoint = carrier.endpoint();
    let took = account.answered(response.status());
    outcome::record(worker, &exchange.backend, endpoint, response.status(), took);
    let session = session.map(|session| session.cookie(&exchange.backend, endpoint.address));
    if let Some(upgrade) = Upgrade::agreed(upgrade, response.status())? {
        let head = upgrade.accept(response, carrier, connection, account, waits.tunnel)?;
        return Ok(Answer::Switched(head));
    }
    patience.set_limit(waits.body);
    Ok(Answer::Response {
        response,
        carrier,
        patience,
        cookie: session.flatten(),
    })
}
