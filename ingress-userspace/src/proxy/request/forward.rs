//! One request from its head to the head of its response.
//!
//! Route, backend, endpoint, exchange; every way that this can fail is a [`Failure`], which becomes
//! an answer of our own in one place.

use std::rc::Rc;
use std::time::Duration;

use http::header::{SET_COOKIE, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, request, response};
use http_body::Body as _;
use hyper::upgrade::OnUpgrade;
use ingress_core::ir::{Balance, UpstreamProtocol};

use crate::proxy::downstream::client_body::Incoming;
use crate::proxy::downstream::connection::{Connection, InFlight};
use crate::proxy::downstream::http2::Tunnel;
use crate::proxy::observe::metrics::account::Account;
use crate::proxy::request::attempt::{Exchange, Reply};
use crate::proxy::request::body::{RequestBody, ResponseBody};
use crate::proxy::request::client::Client;
use crate::proxy::request::error::{BadRequest, Failure};
use crate::proxy::request::forwarded::Lines;
use crate::proxy::request::grpc_timeout;
use crate::proxy::request::head::Rewritten;
use crate::proxy::request::response::Dialect;
use crate::proxy::request::retry::Again;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::request::{head, response as answer};
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::table::slot::{Destination, Lane};
use crate::proxy::tls::client_auth::{self, Judgement};
use crate::proxy::upstream::affinity::Session;
use crate::proxy::upstream::endpoint::{Endpoint, Load};
use crate::proxy::upstream::hash_key;
use crate::proxy::upstream::pool::{Backend, Pick, Wish};
use crate::proxy::upstream::response_source::Carrier;
use crate::proxy::upstream::response_timeout::Patience;
use crate::proxy::upstream::timeouts::Waits;
use crate::proxy::worker::WorkerState;

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
    let mut response = match forward(&connection, request, &client, &account).await {
        Ok(answer) => {
            let response = answer.into_response(in_flight, is_http1);
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
) -> Result<Answer, Failure> {
    let worker = &connection.worker;
    let deadline = grpc_timeout::of(&request, worker.timers.now());
    let (mut head, mut incoming) = request.into_parts();
    let aim = aim(connection, &head, &incoming, account)?;
    let backend = aim.backend;
    let session = Session::of(&backend, &head.headers, worker);
    let wish = wish(&backend, session.as_ref(), &head, client);
    let load = match pick(worker, &backend, wish) {
        Pick::Endpoint(load) => load,
        Pick::Full => Box::pin(wait(worker, &backend, wish)).await?,
        Pick::Nobody => return Err(Failure::NoEndpoint),
    };
    backend.deposit();
    account.try_first(load.address);
    let is_multiplexed = load.protocol.is_multiplexed();
    let activity = is_multiplexed.then(|| Activity::new(Rc::clone(&worker.timers)));
    let tunnel = incoming.take_tunnel(&head.method);
    let (mut body, upload) = RequestBody::new(incoming, activity.as_ref(), aim.body_bytes_max);
    account.uploads(upload.as_ref());
    let asked = Asked {
        connection,
        client,
        account,
        is_bodyless: upload.is_none(),
        shown: aim.shown,
    };
    let (upgrade, lines) = asked.rewrite(&mut head, load.protocol, tunnel)?;
    body.introduce(lines);
    let mut request = Request::from_parts(head, body);
    let mut patience = Patience::new(&worker.timers, &backend.waits, deadline, upload.clone());
    let mut exchange = Exchange {
        worker,
        account,
        again: Again::new(backend.retries, &mut request, upgrade.is_some()),
        backend,
        wish,
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
    judge(worker, &exchange.backend, endpoint, response.status(), took);
    let session = session.map(|session| session.cookie(&exchange.backend, endpoint.address));
    let Waits { body, tunnel, .. } = exchange.backend.waits;
    if let Some(upgrade) = Upgrade::agreed(upgrade, response.status())? {
        let head = upgrade.accept(response, carrier, connection, account, tunnel)?;
        return Ok(Answer::Switched(head));
    }
    patience.set_limit(body);
    Ok(Answer::Response {
        response,
        carrier,
        patience,
        cookie: session.flatten(),
    })
}

/// What a request wants of a pick.
fn wish(
    backend: &Backend,
    session: Option<&Session>,
    head: &request::Parts,
    client: &Client,
) -> Wish {
    let key = match backend.balance() {
        Balance::Hash(by) => Some(hash_key::key(by, head, client)),
        Balance::LeastRequest | Balance::RoundRobin | Balance::PeakEwma => None,
    };
    Wish {
        key,
        endpoint: session.and_then(|session| session.endpoint),
    }
}

/// An endpoint, if one may have one more request.
fn pick(worker: &WorkerState, backend: &Rc<Backend>, wish: Wish) -> Pick {
    let now = worker.timers.now();
    worker.pool.admit(backend, wish, worker.random(), now)
}

/// Waits until an endpoint may have one more request.
async fn wait(worker: &WorkerState, backend: &Rc<Backend>, wish: Wish) -> Result<Load, Failure> {
    worker.counters.upstream_queued.increment();
    let waiting = worker.pool.wait(backend, wish, worker);
    waiting.await.inspect_err(|failure| {
        if matches!(failure, Failure::Full) {
            worker.counters.upstream_rejections.increment();
        }
    })
}

/// Draws conclusions from an answer.
pub(crate) fn judge(
    worker: &WorkerState,
    backend: &Backend,
    endpoint: &Endpoint,
    status: StatusCode,
    took: Duration,
) {
    let now = worker.timers.now();
    if *backend.balance() == Balance::PeakEwma {
        endpoint.observe(took, now);
    }
    if endpoint.answer(status, now) {
        worker.counters.upstream_ejections.increment();
    }
}

/// A request, apart from its head.
struct Asked<'a> {
    connection: &'a Connection,
    client: &'a Client,
    account: &'a Account,
    is_bodyless: bool,
    /// What the client has shown, where that matters.
    shown: Option<Rc<Judgement>>,
}

impl Asked<'_> {
    /// Makes a head that came from a client the one for an endpoint, and returns what to switch to
    /// if the endpoint agrees, and what is written beside the head.
    fn rewrite(
        &self,
        head: &mut request::Parts,
        protocol: UpstreamProtocol,
        tunnel: Option<Tunnel>,
    ) -> Result<(Option<Upgrade>, Option<Lines>), Failure> {
        let mut upgrade = None;
        if head.method == Method::CONNECT {
            let nonce = self.connection.worker.nonce();
            upgrade = tunnel.and_then(|tunnel| Upgrade::of_connect(head, tunnel, nonce));
            upgrade.as_ref().ok_or(BadRequest::Connect)?;
        }
        let takes_lines = !protocol.is_multiplexed();
        let (connection, client) = (self.connection, self.client);
        let Rewritten { protocols, lines } =
            head::rewrite(head, connection, client, self.account, takes_lines);
        if let Some(shown) = &self.shown {
            shown.write(&mut head.headers);
        }
        if protocol.is_multiplexed() {
            // Other upgrades are not for HTTP/2 (RFC 9113 §8.2.2), and a client may be ignored.
            if let Some(protocols) = protocols.filter(|_| self.is_bodyless) {
                upgrade = Upgrade::of_websocket(protocols, &head.headers);
            }
            head::rewrite_for_http2(head, protocol)?;
            if let Some(upgrade) = &mut upgrade {
                upgrade.connect(head);
            }
            return Ok((upgrade, None));
        }
        // Where a request with a body ends and a tunnel begins is for the endpoint to say; so the
        // client may not ask (RFC 9110 §7.8 lets anybody ignore it).
        if let Some(protocols) = protocols.filter(|_| self.is_bodyless) {
            upgrade = Upgrade::of_http1(protocols);
        }
        if let Some(upgrade) = &upgrade {
            upgrade.write(&mut head.headers);
        }
        Ok((upgrade, lines))
    }
}

/// Where a request goes.
struct Aim {
    backend: Rc<Backend>,
    /// What its client has shown, where that matters.
    shown: Option<Rc<Judgement>>,
    body_bytes_max: u64,
}

/// What the route of a request says, if the request may have it.
fn aim(
    connection: &Connection,
    head: &request::Parts,
    incoming: &Incoming,
    account: &Account,
) -> Result<Aim, Failure> {
    let worker = &connection.worker;
    let authority = head::authority(head)?;
    let mut table = worker.table.borrow_mut();
    let mut recent = worker.recent_routes.borrow_mut();
    let route = table
        .load()
        .routes()
        .find_recent(&mut recent, authority, head.uri.path())
        .ok_or(Failure::NoRoute)?;
    let Lane {
        destination,
        client_auth,
        labels,
        slot,
    } = &route.payload;
    account.routed(labels, *slot);
    let policy = client_auth.as_ref();
    let shown = policy.map(|policy| client_auth::admit(connection, policy));
    let shown = shown.transpose()?;
    let mut body_bytes_max = u64::MAX;
    // What nearly all requests have none of is not looked up.
    if !incoming.is_end_stream() {
        let said = route
            .rule
            .body_bytes_max
            .unwrap_or(worker.client_limit.body_bytes_max());
        body_bytes_max = if said == 0 { u64::MAX } else { said };
        if incoming.size_hint().lower() > body_bytes_max {
            return Err(Failure::BodyTooLarge);
        }
    }
    match destination {
        Destination::Backend(slot) => Ok(Aim {
            backend: worker.pool.backend(slot, worker.timers.now()),
            shown,
            body_bytes_max,
        }),
        Destination::Unavailable => Err(Failure::Unavailable),
    }
}
