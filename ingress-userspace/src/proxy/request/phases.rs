//! One request from its head to the head of its response, phase by phase.
//!
//! route → authorize → filter the request → pick an endpoint → prepare the head → send (attempts,
//! retries) → filter the response → record. Each phase is a file; every way in which one can fail is
//! a [`ProxyError`], which becomes an answer of our own in one place.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, request, response};
use ingress_core::ir::{Filter, RequestBuffering, Retries, RouteTimeouts};

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::attempt::{Exchange, Reply};
use crate::proxy::request::client::Client;
use crate::proxy::request::connection::{Connection, InFlight};
use crate::proxy::request::error::{ProxyError, Side};
use crate::proxy::request::filter::{self, FilterInput, Filtered, ResponseFilters};
use crate::proxy::request::gather::{Receive, Received};
use crate::proxy::request::prepare::Prepare;
use crate::proxy::request::replay::Replay;
use crate::proxy::request::response::ErrorFormat;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::request::route::{RouteDecision, Routed};
use crate::proxy::request::shape::Shape;
use crate::proxy::request::upgrade::Upgrade;
use crate::proxy::request::{
    client, grpc_timeout, head, mirror, outcome, pick, response as answer, route,
};
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::transport::Downstream;
use crate::proxy::table::slot::RouteExtras;
use crate::proxy::tls::client_auth::{self, ClientCertVerdict};
use crate::proxy::upstream::affinity::Session;
use crate::proxy::upstream::pool::Backend;
use crate::proxy::upstream::request_body::Tap;
use crate::proxy::upstream::response_source::ResponseSource;
use crate::proxy::upstream::response_timeout::ResponseTimeout;

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
    let record = RequestRecord::open(
        &worker.observers,
        &connection.info(&client, downstream),
        &request,
    );
    let in_flight = connection.begin(record.clone());
    let counters = connection
        .worker
        .runtime
        .counters
        .datapath(connection.datapath);
    counters.requests.increment();
    let error_format = ErrorFormat::of(&request);
    let mut is_last = request.body().asks_upgrade();
    let filters = ResponseFilters::default();
    let phases = Phases {
        connection: &connection,
        client: &client,
        record: &record,
        response_filters: &filters,
    };
    let mut response = match phases.run(request).await {
        Ok(answer) => answer.into_response(in_flight, downstream),
        Err(failure) => {
            if failure.side() == Side::Upstream {
                record.log_upstream_error(&failure);
            } else {
                tracing::debug!(error = &failure as &dyn std::error::Error, "request failed");
            }
            // A client that sends one malformed request is not trusted with a second.
            is_last |=
                downstream.ends_after_bad_request() && matches!(failure, ProxyError::BadRequest(_));
            answer::failure(&failure, error_format, in_flight)
        }
    };
    counters.respond(response.status());
    let status = response.status();
    filters.apply(status, response.headers_mut(), || {
        filter::is_https(&connection, &client)
    });
    if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        // What follows the request may not be meant as HTTP.
        answer::close(&mut response);
    }
    record.respond(&response);
    response
}

/// What an endpoint has answered.
pub(super) enum Answer {
    /// A response head, with all that is needed to read its body.
    Response {
        response: Response<()>,
        source: ResponseSource,
        timeout: ResponseTimeout,
        /// The cookie of a session that has begun or moved.
        cookie: Option<HeaderValue>,
        shape: Shape,
    },
    /// The connection has switched protocols; this is the head of the 101 response.
    Switched(response::Parts),
}

impl Answer {
    fn into_response(self, in_flight: InFlight, downstream: Downstream) -> Response<ResponseBody> {
        match self {
            Self::Response {
                response,
                source,
                timeout,
                cookie,
                shape,
            } => {
                let (mut head, ()) = response.into_parts();
                answer::rewrite(&mut head);
                if let Some(cookie) = cookie {
                    head.headers.append(SET_COOKIE, cookie);
                }
                let transform = shape.transform(&mut head, &source);
                let body =
                    ResponseBody::upstream(source, timeout, transform, in_flight, downstream);
                Response::from_parts(head, body)
            }
            Self::Switched(head) => Response::from_parts(head, ResponseBody::text("", in_flight)),
        }
    }
}

/// A request that may go to an endpoint.
pub(super) struct Entered {
    pub(super) backend: Rc<Backend>,
    /// The verdict on the client's certificate, where the host requires one.
    pub(super) shown: Option<Rc<ClientCertVerdict>>,
    /// The host that the endpoint is told in place of the client's.
    pub(super) host: Option<HeaderValue>,
    /// Fields that the endpoint gets, whatever the client says.
    pub(super) fields: HeaderMap,
    pub(super) extras: Option<Arc<RouteExtras>>,
    /// A second receiver of the body.
    pub(super) tap: Option<Tap>,
    pub(super) timeouts: RouteTimeouts,
    pub(super) retries: Retries,
    pub(super) body_bytes_max: u64,
    pub(super) request_buffering: RequestBuffering,
}

/// How far the phases before an endpoint have come.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every request is the large one, and a box would cost each an allocation"
)]
enum Entering {
    Done(Entered),
    Checked(Box<Checking>),
}

/// A request that has to pass a check before it goes on.
struct Checking {
    authority: Box<str>,
    path: Box<[u8]>,
    filters: Arc<[Filter]>,
    filtered: Filtered,
    decided: Decided,
}

/// The decisions on a request before its filters run.
struct Decided {
    destination: Routed,
    shown: Option<Rc<ClientCertVerdict>>,
    extras: Option<Arc<RouteExtras>>,
    timeouts: RouteTimeouts,
    retries: Retries,
    body_bytes_max: u64,
    request_buffering: RequestBuffering,
}

impl Decided {
    /// Sends a copy of the request where the route asks for it.
    fn mirror(&self, input: FilterInput<'_>) -> Option<Tap> {
        let mirror = self.extras.as_ref()?.mirror.as_ref()?;
        mirror::send(mirror, input)
    }

    fn admit(
        self,
        mut filtered: Filtered,
        tap: Option<Tap>,
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Entered, ProxyError> {
        let backend = match self.destination {
            Routed::Backend(backend) => backend,
            Routed::Respond(answer) => return Err(ProxyError::Answered(Box::new(answer))),
            Routed::Unavailable => return Err(ProxyError::Unavailable),
        };
        filtered.apply(head, incoming.original_mut())?;
        Ok(Entered {
            backend,
            shown: self.shown,
            host: filtered.host,
            fields: filtered.headers,
            extras: self.extras,
            tap,
            timeouts: self.timeouts,
            retries: self.retries,
            body_bytes_max: self.body_bytes_max,
            request_buffering: self.request_buffering,
        })
    }
}

/// The context of all phases of one request.
pub(super) struct Phases<'a> {
    pub(super) connection: &'a Rc<Connection>,
    client: &'a Client,
    record: &'a RequestRecord,
    response_filters: &'a ResponseFilters,
}

impl Phases<'_> {
    async fn run(&self, request: Request<Incoming>) -> Result<Answer, ProxyError> {
        let deadline = grpc_timeout::of(&request, self.connection.worker.runtime.timers.now());
        let (mut head, mut incoming) = request.into_parts();
        let entered = match self.enter(&mut head, &mut incoming)? {
            Entering::Done(entered) => entered,
            Entering::Checked(checking) => {
                Box::pin(self.check(checking, &mut head, &mut incoming)).await?
            }
        };
        let extras = entered.extras.clone();
        match extras
            .as_ref()
            .and_then(|extras| extras.error_pages.as_ref())
        {
            None => self.send(entered, head, incoming, deadline).await,
            Some(pages) => {
                let sending = self.send_or_replace(pages, entered, head, incoming, deadline);
                Box::pin(sending).await
            }
        }
    }

    /// The phases before an endpoint has a part in it: route, authorize, filter.
    fn enter(
        &self,
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Entering, ProxyError> {
        let connection = self.connection;
        let RouteDecision {
            authority,
            path,
            destination,
            client_auth,
            filters,
            extras,
            timeouts,
            retries,
            body_bytes_max,
            request_buffering,
        } = route::route(connection, head, incoming, self.record)?;
        let policy = client_auth.as_ref();
        let shown = policy.map(|policy| {
            let counters = &connection.worker.runtime.counters;
            client_auth::admit(connection.scheme, connection.presented(), policy, counters)
        });
        let decided = Decided {
            destination,
            shown: shown.transpose()?,
            extras,
            timeouts,
            retries,
            body_bytes_max,
            request_buffering,
        };
        let mut filtered = Filtered::default();
        if let Some(filters) = filters {
            let input = self.input(head, incoming, authority, &path);
            filtered = filter::on_request(&filters, input, self.response_filters)?;
            if filtered.is_checked() {
                return Ok(Entering::Checked(Box::new(Checking {
                    authority: authority.into(),
                    path: path.into(),
                    filters,
                    filtered,
                    decided,
                })));
            }
        }
        let tap = decided.mirror(self.input(head, incoming, authority, &path));
        let entered = decided.admit(filtered, tap, head, incoming)?;
        Ok(Entering::Done(entered))
    }

    /// The remaining phases of a request that needs a check.
    async fn check(
        &self,
        checking: Box<Checking>,
        head: &mut request::Parts,
        incoming: &mut Incoming,
    ) -> Result<Entered, ProxyError> {
        let Checking {
            authority,
            path,
            filters,
            mut filtered,
            decided,
        } = *checking;
        let input = self.input(head, incoming, &authority, &path);
        let finishing = filtered.finish(&filters, input, self.response_filters, self.record);
        finishing.await?;
        let tap = decided.mirror(input);
        decided.admit(filtered, tap, head, incoming)
    }

    fn input<'a>(
        &'a self,
        head: &'a request::Parts,
        incoming: &'a Incoming,
        authority: &'a str,
        path: &'a [u8],
    ) -> FilterInput<'a> {
        FilterInput {
            connection: self.connection,
            client: self.client,
            head,
            incoming,
            authority,
            path,
        }
    }

    /// The gather phase.
    async fn receive(
        &self,
        entered: &Entered,
        head: &request::Parts,
        incoming: Incoming,
        deadline: Option<Instant>,
    ) -> Result<Received, ProxyError> {
        let receive = Receive {
            worker: &self.connection.worker,
            record: self.record,
            backend: Rc::clone(&entered.backend),
            timeouts: entered.timeouts,
            bytes_max: entered.body_bytes_max,
            buffering: entered.request_buffering,
            deadline,
        };
        receive.run(head, incoming).await
    }

    /// The phases with an endpoint: gather the body, pick, prepare, attempts and retries, and what the response says.
    pub(super) async fn send(
        &self,
        entered: Entered,
        mut head: request::Parts,
        incoming: Incoming,
        deadline: Option<Instant>,
    ) -> Result<Answer, ProxyError> {
        let (connection, client, record) = (self.connection, self.client, self.record);
        let worker = &connection.worker;
        let downstream = incoming.downstream();
        let Received {
            backend,
            mut body,
            upload,
            tunnel,
            waits,
            mut timeout,
        } = self.receive(&entered, &head, incoming, deadline).await?;
        let extras = entered.extras.as_deref();
        let session = Session::of(&backend, &head.headers, extras, &worker.runtime);
        let hint = pick::hint(&backend, session.as_ref(), &head, client);
        let load = pick::pick(worker, &backend, hint).await?;
        backend.deposit();
        record.try_first(load.address);
        let is_multiplexed = load.protocol.is_multiplexed();
        let activity = is_multiplexed.then(|| Activity::new(Rc::clone(&worker.runtime.timers)));
        body.watch(activity.as_ref());
        body.tap(entered.tap);
        let prepare = Prepare {
            connection,
            client,
            record,
            downstream,
            is_bodyless: upload.is_none(),
            shown: entered.shown,
            host: entered.host,
            fields: entered.fields,
        };
        let (upgrade, lines) = prepare.run(&mut head, load.protocol, tunnel)?;
        body.introduce(lines);
        let shape = Shape::of(entered.extras.as_deref(), &head.headers);
        let mut request = Request::from_parts(head, body);
        let mut exchange = Exchange {
            worker,
            record,
            replay: Replay::new(entered.retries, &mut request, upload, upgrade.is_some()),
            backend,
            hint,
            retries: entered.retries,
            connect_timeout: waits.connect,
            may_switch: upgrade.is_some(),
            first: load.address,
            tried: Vec::new(),
            protocol: load.protocol,
            activity,
        };
        let reply = exchange.run(load, request, &mut timeout).await?;
        let cookie = session.and_then(|session| {
            let endpoint = reply.source.endpoint().address;
            let is_https = filter::is_https(connection, client);
            session.cookie(&exchange.backend, endpoint, is_https, SystemTime::now())
        });
        let Reply { response, source } = self.record(&exchange.backend, reply);
        if let Some(upgrade) = Upgrade::agreed(upgrade, response.status())? {
            let head = upgrade.accept(response, source, connection, record, waits.tunnel)?;
            return Ok(Answer::Switched(head));
        }
        timeout.set_limit(waits.body);
        Ok(Answer::Response {
            response,
            source,
            timeout,
            cookie,
            shape,
        })
    }

    /// Notes what an endpoint has answered, and how soon.
    fn record(&self, backend: &Backend, reply: Reply) -> Reply {
        let status = reply.response.status();
        let took = self.record.answered(status);
        let worker = &self.connection.worker;
        outcome::record(
            &worker.runtime,
            backend,
            reply.source.endpoint(),
            status,
            took,
        );
        reply
    }
}
