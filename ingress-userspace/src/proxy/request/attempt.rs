//! One request and the endpoints that it is tried on, until one has answered.
//!
//! Invariant: unless an Ingress asks for it, no endpoint is asked for a request that another may
//! have executed. A request moves on if nothing of it was sent, if the endpoint says that it has
//! done nothing about it, or, when it is idempotent and has no body (RFC 9110 §9.2.2), if the kept
//! connection that it was sent on broke, or its endpoint has gone (`reach.rs`): neither is a
//! request's fault.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use hyper::ext::Protocol;
use ingress_core::ir::{Retries, RetryCause, UpstreamProtocol};

use crate::proxy::observe::metrics::account::Account;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::retry::{Again, Miss};
use crate::proxy::runtime::limits::{REFUSALS_MAX, STALE_MAX};
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::upload::{Progress, Upload};
use crate::proxy::upstream::connect::{self, Aim};
use crate::proxy::upstream::connection_sharing;
use crate::proxy::upstream::endpoint::Load;
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::http1::{Fault, SendError, Upstream};
use crate::proxy::upstream::http2::{Room, is_reset};
use crate::proxy::upstream::pool::{Backend, Wish};
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_source::Carrier;
use crate::proxy::upstream::response_timeout::Patience;

/// One request, apart from its head and body.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<WorkerContext>,
    pub(crate) account: &'a Account,
    pub(crate) backend: Rc<Backend>,
    pub(crate) wish: Wish,
    /// When the request is retried on another endpoint.
    pub(crate) retries: Retries,
    pub(crate) connect_timeout: Duration,
    /// How far the request body has come, if there is one.
    pub(crate) upload: Option<Rc<Upload>>,
    /// Whether it asks to leave HTTP.
    pub(crate) may_switch: bool,
    /// The endpoint that it is tried on first.
    pub(crate) first: SocketAddr,
    /// Endpoints that have failed it.
    pub(crate) tried: Vec<SocketAddr>,
    /// What every endpoint that it is tried on has to speak.
    pub(crate) protocol: UpstreamProtocol,
    /// Set if it may go on though an endpoint may have executed it.
    pub(crate) again: Option<Box<Again>>,
    /// What has moved of it on a connection that it shares with others.
    pub(crate) activity: Option<Rc<Activity>>,
}

/// A response head and where its body comes from.
pub(crate) struct Reply {
    pub(crate) response: Response<()>,
    pub(crate) carrier: Carrier,
}

impl Exchange<'_> {
    /// Tries endpoints until one has answered or none is left to try.
    pub(crate) async fn run(
        &mut self,
        load: Load,
        request: Request<RequestBody>,
        patience: &mut Patience,
    ) -> Result<Reply, ProxyError> {
        // What is rare is boxed: requests are moved, and their futures with them.
        let outcome = if self.protocol.is_multiplexed() {
            Box::pin(self.over_http2(load, request, patience)).await
        } else {
            self.over_http1(load, request, patience).await
        };
        match outcome {
            Ok(reply) if self.again.is_none() => Ok(reply),
            outcome => Box::pin(self.elsewhere(outcome, patience)).await,
        }
    }

    /// Sends the request over an idle connection if there is one that works, else over a new one.
    pub(crate) async fn over_http1(
        &self,
        load: Load,
        mut request: Request<RequestBody>,
        patience: &mut Patience,
    ) -> Result<Reply, Miss> {
        let worker = self.worker;
        let is_repeatable = self.is_repeatable(&request);
        worker.upstreams.departures.wait().await;
        for _ in 0..STALE_MAX {
            let Some(mut upstream) = self.open_connection(&load).await else {
                break;
            };
            if !is_repeatable && upstream.is_closed() {
                continue;
            }
            match upstream.send(request, patience).await {
                Ok(response) => {
                    worker.runtime.counters.upstream_reuses.increment();
                    let carrier = Carrier::own(upstream, load);
                    return Ok(Reply { response, carrier });
                }
                Err(SendError::Unsent(unsent)) => request = *unsent,
                Err(SendError::Broken(Fault::Gone)) => {
                    let sent = is_repeatable.then(|| upstream.sent()).flatten();
                    return Err(self.gone(&load, sent));
                }
                // The endpoint closed the connection while the request was on its way.
                Err(SendError::Broken(error) | SendError::Refused(error)) => {
                    let sent = is_repeatable.then(|| upstream.sent()).flatten();
                    request = sent.ok_or_else(|| self.broken(error))?;
                    worker.runtime.counters.upstream_replays.increment();
                    // Once is enough: a new connection is not closed for having been idle.
                    break;
                }
                Err(SendError::TimedOut) => {
                    return Err(self.timed_out(patience, upstream.is_clogged()).into());
                }
            }
        }
        // Boxed, as all that is rare: requests are moved, and a handshake is large.
        let mut upstream = match Box::pin(connect::http1(&self.aim(&load))).await {
            Ok(upstream) => upstream,
            Err(failure) => return Err(Miss::before(failure, request)),
        };
        self.account.connected();
        match upstream.send(request, patience).await {
            Ok(response) => {
                let carrier = Carrier::own(upstream, load);
                Ok(Reply { response, carrier })
            }
            Err(SendError::Unsent(unsent)) => Err(Miss::before(UpstreamError::Unsent, *unsent)),
            Err(SendError::Broken(Fault::Gone)) => {
                let sent = is_repeatable.then(|| upstream.sent()).flatten();
                Err(self.gone(&load, sent))
            }
            Err(SendError::Broken(error) | SendError::Refused(error)) => {
                Err(self.broken(error).into())
            }
            Err(SendError::TimedOut) => Err(self.timed_out(patience, upstream.is_clogged()).into()),
        }
    }

    /// Sends the request as one of several on a connection.
    pub(crate) async fn over_http2(
        &self,
        load: Load,
        mut request: Request<RequestBody>,
        patience: &mut Patience,
    ) -> Result<Reply, Miss> {
        let worker = self.worker;
        let activity = match &self.activity {
            Some(activity) => Rc::clone(activity),
            None => Activity::new(Rc::clone(&worker.runtime.timers)),
        };
        let mut stale = 0;
        loop {
            let place = match load.multiplexed.room(&worker.runtime.timers).await {
                Room::Place(place) => place,
                Room::Dial(dialling) => {
                    // Boxed, as a connection is for many requests.
                    if let Err(failure) = Box::pin(connect::http2(&self.aim(&load))).await {
                        // Who waits may be of another backend, which still has the endpoint.
                        if !matches!(failure, UpstreamError::Left) {
                            dialling.fail();
                        }
                        return Err(Miss::before(failure, request));
                    }
                    self.account.connected();
                    continue;
                }
                Room::Failed => return Err(Miss::before(UpstreamError::Unreached, request)),
                Room::Full => return Err(Miss::before(UpstreamError::Full, request)),
            };
            if self.may_switch && !place.takes_tunnels() {
                return Err(UpstreamError::NoTunnel.into());
            }
            let is_repeatable = self.is_repeatable(&request);
            let copy = self.upload.is_none().then(|| copy(&request));
            let error = match place.send(request, &activity, patience).await {
                Ok(response) => {
                    if place.is_reused() {
                        worker.runtime.counters.upstream_reuses.increment();
                    }
                    let (head, incoming) = response.into_parts();
                    return Ok(Reply {
                        response: Response::from_parts(head, ()),
                        carrier: Carrier::shared(incoming, place, activity, load),
                    });
                }
                Err(error) => error,
            };
            request = match (error, copy) {
                (SendError::Unsent(unsent), _) => *unsent,
                (SendError::Broken(Fault::Gone), copy) => {
                    return Err(self.gone(&load, copy.filter(|_| is_repeatable)));
                }
                (SendError::Refused(error), Some(copy)) => {
                    return Err(Miss::before(self.broken(error), copy));
                }
                (SendError::Broken(error), Some(copy))
                    if is_repeatable && place.is_reused() && !is_reset(&error) =>
                {
                    copy
                }
                (SendError::Broken(error) | SendError::Refused(error), _) => {
                    return Err(self.broken(error).into());
                }
                (SendError::TimedOut, _) => {
                    return Err(self.timed_out(patience, false).into());
                }
            };
            worker.runtime.counters.upstream_replays.increment();
            stale += 1;
            if stale == STALE_MAX {
                return Err(Miss::before(UpstreamError::Unsent, request));
            }
        }
    }

    /// What a connection for it is to be. A session does not move because a packet was lost.
    fn aim<'b>(&'b self, load: &'b Load) -> Aim<'b> {
        let has_tries_left = self.tried.len() + 1 < REFUSALS_MAX;
        let Retries {
            after,
            tries_max,
            seconds_max,
        } = self.retries;
        let is_bound = tries_max.is_some()
            || seconds_max.is_some()
            || after.is_some_and(|after| after.has(RetryCause::Off));
        let may_move = self.wish.endpoint.is_none() && !is_bound;
        Aim {
            upstreams: &self.worker.upstreams,
            backend: &self.backend,
            timeout: self.connect_timeout,
            endpoint: load,
            tried: (has_tries_left && may_move).then_some(&self.tried),
        }
    }

    /// An open connection of this worker, else of another one.
    async fn open_connection(&self, load: &Load) -> Option<Box<Upstream>> {
        match self.worker.upstreams.pool.take(load) {
            Some(upstream) => Some(upstream),
            None => Box::pin(connection_sharing::borrow(&self.worker.upstreams, load)).await,
        }
    }

    /// Whether a request may be sent twice: idempotent by its method and without a body
    /// (RFC 9110 §9.2.2).
    fn is_repeatable(&self, request: &Request<RequestBody>) -> bool {
        self.upload.is_none() && request.method().is_idempotent()
    }

    /// The endpoint has gone, with the request or before it: another one may be asked if `request`
    /// is there.
    fn gone(&self, load: &Load, request: Option<Request<RequestBody>>) -> Miss {
        let worker = self.worker;
        worker.upstreams.pool.close_idle(load);
        if load.fail(worker.runtime.timers.now()) {
            worker.runtime.counters.upstream_ejections.increment();
        }
        let failure = self.broken(Fault::Gone);
        match request {
            Some(request) => Miss::before(failure, request),
            None => failure.into(),
        }
    }

    fn broken(&self, fault: Fault) -> ProxyError {
        match self.progress() {
            Progress::Failed => ProxyError::BadRequestBody,
            Progress::TooLarge => ProxyError::BodyTooLarge,
            Progress::Streaming | Progress::Done => UpstreamError::Broken(fault).into(),
        }
    }

    /// Nothing moved for too long. Whose fault that was: `is_clogged` if there was something to
    /// send.
    fn timed_out(&self, patience: &Patience, is_clogged: bool) -> ProxyError {
        if patience.is_past_deadline() {
            return ProxyError::DeadlineExceeded;
        }
        match self.progress() {
            Progress::Streaming if !is_clogged => ProxyError::RequestTimedOut,
            Progress::Failed => ProxyError::BadRequestBody,
            Progress::TooLarge => ProxyError::BodyTooLarge,
            Progress::Streaming | Progress::Done => UpstreamError::ResponseTimedOut.into(),
        }
    }

    fn progress(&self) -> Progress {
        self.upload
            .as_ref()
            .map_or(Progress::Done, |upload| upload.progress())
    }
}

/// A request without a body, once more.
pub(crate) fn copy(request: &Request<RequestBody>) -> Request<RequestBody> {
    let mut copy = Request::new(RequestBody::empty(request.body().original().clone()));
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    if let Some(protocol) = request.extensions().get::<Protocol>() {
        copy.extensions_mut().insert(protocol.clone());
    }
    copy
}
