//! One request from its head to the head of its response, phase by phase.
//!
//! route → authorize → filter the request → pick an endpoint → prepare the head → send (attempts,
//! retries) → filter the response → record. Each phase is a file; every way in which one can fail is
//! a [`ProxyError`], which becomes an answer of our own in one place.

use std::rc::Rc;
use std::time::Instant;

use http::header::SET_COOKIE;
use http::{HeaderValue, Request, Response, StatusCode, request, response};
use ingress_core::ir::{Retries, RouteTimeouts};

use crate::proxy::observe::metrics::account::Account;
use crate::proxy::request::attempt::{Exchange, Reply};
use crate::proxy::request::client::Client;
use crate::proxy::request::connection::{Connection, InFlight};
use crate::proxy::request::error::{ProxyError, Side};
use crate::proxy::request::filter::{self, FilterInput, Filtered, ResponseFilters};
use crate::proxy::request::prepare::Prepare;
use crate::proxy::request::replay::Replay;
use crate::proxy::request::response::Dialect;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::route::{RouteDecision, Routed};
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::request::{client, grpc_timeout, head, outcome, pick, response as answer, route};
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::transport::Downstream;
use crate::proxy::tls::client_auth::{self, Judgement};
use crate::proxy::upstream::affinity::Session;
use crate::proxy::upstream::pool::Backend;
use crate::proxy::upstream::request_body::RequestBody;
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
    (worker.tables.current.borrow_mut().load().routes())
        .prefetch(&worker.tables.recent_routes.borrow(), host);
    let client = client::identify(&connection, request.headers());
    let downstream = request.body().downstream();
    let account = Account::open(
        &worker.observers,
        &connection.info(&client, downstream),
        &request,
    );
    let in_flight = connection.begin(account.clone());
    let counters = connection
        .worker
        .runtime
        .counters
        .datapath(connection.datapath);
    counters.requests.increment();
    let dialect = Dialect::of(&request);
    let mut is_last = request.body().asks_upgrade();
    let filters = ResponseFilters::default();
    let phases = Phases {
        connection: &connection,
        client: &client,
        account: &account,
        response_filters: &filters,
    };
    let mut response = match phases.run(request).await {
        Ok(answer) => answer.into_response(in_flight, downstream),
        Err(failure) => {
            if failure.side() == Side::Upstream {
                account.log_upstream_error(&failure);
            } else {
                tracing::debug!(error = &failure as &dyn std::error::Error, "request failed");
            }
            // A client that sends one malformed request is not trusted with a second.
            is_last |=
                downstream.ends_after_bad_request() && matches!(failure, ProxyError::BadRequest(_));
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
    fn into_response(self, in_flight: InFlight, downstream: Downstream) -> Response<ResponseBody> {
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
                let body = ResponseBody::upstream(carrier, patience, in_flight, downstream);
                Response::from_parts(head, body)
            }
            Self::Switched(head) => Response::from_parts(head, ResponseBody::text("", in_flight)),
        }
    }
}

/// A request that may go to an endpoint.
struct Entered {
    backend: Rc<Backend>,
    /// What the client has shown, where that matters.
    shown: Option<Rc<Judgement>>,
    /// The host that the endpoint is told in place of the client's.
    host: Option<HeaderValue>,
    timeouts: RouteTimeouts,
    retries: Retries,
    body_bytes_max: u64,
}

/// What all phases of a request know of it.
struct Phases<'a> {
    connection: &'a Rc<Connection>,
    client: &'a Client,
    account: &'a Account,
    response_filters: &'a ResponseFilters,
}

impl Phases<'_> {
    async fn run(&self, request: Request<Incoming>) -> Result<Answer, ProxyError> {
        let deadline = grpc_timeout::of(&request, self.connection.worker.runtime.timers.now());
        let (mut head, mut incoming) = request.into_parts();
        let entered = self.enter(&mut head, &mut incoming)?;
        self.send(entered, head, incoming, deadline).await
    }

    /// The phases before an endpoint has a part in it: route, authorize, filter.
    fn enter(
        &self,
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Entered, ProxyError> {
        let (connection, client) = (self.connection, self.client);
        let RouteDecision {
            authority,
            path,
            destination,
            client_auth,
            filters,
            timeouts,
            retries,
            body_bytes_max,
        } = route::route(connection, head, incoming, self.account)?;
        let policy = client_auth.as_ref();
        let shown = policy.map(|policy| {
            let counters = &connection.worker.runtime.counters;
            client_auth::admit(connection.scheme, connection.presented(), policy, counters)
        });
        let shown = shown.transpose()?;
        let mut filtered = Filtered::default();
        if let Some(filters) = &filters {
            self.response_filters.set(filters);
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
            Routed::Respond(answer) => return Err(ProxyError::Answered(Box::new(answer))),
            Routed::Unavailable => return Err(ProxyError::Unavailable),
        };
        filtered.apply(head, incoming.original_mut())?;
        Ok(Entered {
            backend,
            shown,
            host: filtered.host,
            timeouts,
            retries,
            body_bytes_max,
        })
    }

    /// The phases with an endpoint: pick, prepare, attempts and retries, and what the response says.
    async fn send(
        &self,
        entered: Entered,
        mut head: request::Parts,
        mut incoming: Incoming,
        deadline: Option<Instant>,
    ) -> Result<Answer, ProxyError> {
        let Self {
            connection,
            client,
            account,
            ..
        } = *self;
        let worker = &connection.worker;
        let backend = entered.backend;
        let session = Session::of(&backend, &head.headers, &worker.runtime);
        let wish = pick::hint(&backend, session.as_ref(), &head, client);
        let load = pick::pick(worker, &backend, wish).await?;
        backend.deposit();
        account.try_first(load.address);
        let is_multiplexed = load.protocol.is_multiplexed();
        let activity = is_multiplexed.then(|| Activity::new(Rc::clone(&worker.runtime.timers)));
        let downstream = incoming.downstream();
        let tunnel = incoming.take_tunnel(&head.method);
        let max = entered.body_bytes_max;
        let (mut body, upload) = RequestBody::new(incoming, activity.as_ref(), max);
        account.uploads(upload.as_ref());
        let prepare = Prepare {
            connection,
            client,
            account,
            downstream,
            is_bodyless: upload.is_none(),
            shown: entered.shown,
            host: entered.host,
        };
        let (upgrade, lines) = prepare.run(&mut head, load.protocol, tunnel)?;
        body.introduce(lines);
        let mut request = Request::from_parts(head, body);
        let waits = Waits::new(worker.upstreams.pool.timeouts(), entered.timeouts);
        let mut patience = Patience::new(&worker.runtime.timers, &waits, deadline, upload.clone());
        let mut exchange = Exchange {
            worker,
            account,
            replay: Replay::new(entered.retries, &mut request, upload, upgrade.is_some()),
            backend,
            wish,
            retries: entered.retries,
            connect_timeout: waits.connect,
            may_switch: upgrade.is_some(),
            first: load.address,
            tried: Vec::new(),
            protocol: load.protocol,
            activity,
        };
        let reply = exchange.run(load, request, &mut patience).await?;
        let session = session.map(|session| {
            let endpoint = reply.carrier.endpoint().address;
            session.cookie(&exchange.backend, endpoint)
        });
        self.record(&exchange.backend, &reply);
        let Reply { response, carrier } = reply;
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

    /// Notes what an endpoint has answered, and how soon.
    fn record(&self, backend: &Backend, reply: &Reply) {
        let status = reply.response.status();
        let took = self.account.answered(status);
        let worker = &self.connection.worker;
        outcome::record(
            &worker.runtime,
            backend,
            reply.carrier.endpoint(),
            status,
            took,
        );
    }
}
