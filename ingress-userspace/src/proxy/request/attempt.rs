//! One request and the endpoints that it is tried on, until one has answered.
//!
//! Invariant: a request that an endpoint may have executed goes to another one only if the Ingress
//! says so, or if the request is idempotent and has no body (RFC 9110 §9.2.2) and its connection
//! broke before any response, or its endpoint has gone (`reach.rs`). A pod that ends resets the
//! connections that its kernel has accepted and its process has not: to the proxy this looks like a
//! request that broke. A request that breaks endpoints reaches two of them at most.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Request, Response};
use ingress_core::ir::{Retries, RetryCause, UpstreamProtocol};

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::replay::Replay;
use crate::proxy::request::retry::Miss;
use crate::proxy::runtime::limits::{REFUSALS_MAX, STALE_MAX};
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::upload::{Progress, Upload};
use crate::proxy::upstream::connect::{self, ConnectTarget};
use crate::proxy::upstream::connection_sharing;
use crate::proxy::upstream::endpoint::InFlightGuard;
use crate::proxy::upstream::error::UpstreamError;
use crate::proxy::upstream::http1::{Fault, SendError, Upstream};
use crate::proxy::upstream::http2::{Room, StreamPermit, is_reset};
use crate::proxy::upstream::pool::{Backend, PickHint};
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_source::ResponseSource;
use crate::proxy::upstream::response_timeout::ResponseTimeout;

/// One request, apart from its head and body.
pub(crate) struct Exchange<'a> {
    pub(crate) worker: &'a Rc<WorkerContext>,
    pub(crate) record: &'a RequestRecord,
    pub(crate) backend: Rc<Backend>,
    pub(crate) hint: PickHint,
    /// When the request is retried on another endpoint.
    pub(crate) retries: Retries,
    pub(crate) connect_timeout: Duration,
    /// Whether it asks to leave HTTP.
    pub(crate) may_switch: bool,
    /// The endpoint that it is tried on first.
    pub(crate) first: SocketAddr,
    /// Endpoints that have failed it.
    pub(crate) tried: Vec<SocketAddr>,
    /// What every endpoint that it is tried on has to speak.
    pub(crate) protocol: UpstreamProtocol,
    /// How it can be sent again.
    pub(crate) replay: Replay,
    /// What has moved of it on a connection that it shares with others.
    pub(crate) activity: Option<Rc<Activity>>,
}

/// A response head and where its body comes from.
pub(crate) struct Reply {
    pub(crate) response: Response<()>,
    pub(crate) source: ResponseSource,
}

/// A send that has failed.
struct Failed {
    error: SendError,
    /// The request, if it is there and has no body.
    sent: Option<Request<RequestBody>>,
    connection: Use,
    /// Whether the endpoint did not take what there was for it.
    is_clogged: bool,
}

/// The earlier use of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Nothing.
    First,
    /// Other requests.
    Again,
}

/// The next step after a send that failed.
enum Step {
    /// Another connection: nothing of the request was sent.
    Unsent(Request<RequestBody>),
    /// Another connection: what was sent may be sent twice.
    Repeat(Request<RequestBody>),
    /// The end of this attempt.
    Stop(Miss),
}

impl Failed {
    fn over_http1(error: SendError, upstream: &Upstream, replay: &Replay, connection: Use) -> Self {
        Self {
            error,
            sent: replay.sent_by(upstream),
            connection,
            is_clogged: upstream.is_clogged(),
        }
    }
}

impl Exchange<'_> {
    /// Tries endpoints until one has answered or none is left to try.
    pub(crate) async fn run(
        &mut self,
        load: InFlightGuard,
        request: Request<RequestBody>,
        timeout: &mut ResponseTimeout,
    ) -> Result<Reply, ProxyError> {
        // What is rare is boxed: requests are moved, and their futures with them.
        let outcome = if self.protocol.is_multiplexed() {
            Box::pin(self.over_http2(load, request, timeout)).await
        } else {
            self.over_http1(load, request, timeout).await
        };
        match outcome {
            Ok(reply) if !self.replay.is_retained() => Ok(reply),
            outcome => Box::pin(self.elsewhere(outcome, timeout)).await,
        }
    }

    /// Sends the request over an idle connection if there is one that works, else over a new one.
    pub(crate) async fn over_http1(
        &self,
        load: InFlightGuard,
        mut request: Request<RequestBody>,
        timeout: &mut ResponseTimeout,
    ) -> Result<Reply, Miss> {
        let worker = self.worker;
        worker.upstreams.write_batch.wait().await;
        for _ in 0..STALE_MAX {
            let Some(mut upstream) = self.open_connection(&load).await else {
                break;
            };
            if !self.replay.is_repeatable() && upstream.is_closed() {
                continue;
            }
            let error = match upstream.send(request, timeout).await {
                Ok(response) => {
                    worker.runtime.counters.upstream_reuses.increment();
                    let source = ResponseSource::own(upstream, load);
                    return Ok(Reply { response, source });
                }
                Err(error) => error,
            };
            let failed = Failed::over_http1(error, &upstream, &self.replay, Use::Again);
            match self.step_after(failed, &load, timeout) {
                Step::Unsent(unsent) => request = unsent,
                Step::Repeat(sent) => {
                    request = sent;
                    worker.runtime.counters.upstream_replays.increment();
                    // Once is enough: a new connection is not closed for having been idle.
                    break;
                }
                Step::Stop(miss) => return Err(miss),
            }
        }
        // Boxed, as all that is rare: requests are moved, and a handshake is large.
        let mut upstream = match Box::pin(connect::http1(&self.target(&load))).await {
            Ok(upstream) => upstream,
            Err(failure) => return Err(Miss::before(failure, request)),
        };
        self.record.connected();
        let error = match upstream.send(request, timeout).await {
            Ok(response) => {
                let source = ResponseSource::own(upstream, load);
                return Ok(Reply { response, source });
            }
            Err(error) => error,
        };
        let failed = Failed::over_http1(error, &upstream, &self.replay, Use::First);
        Err(match self.step_after(failed, &load, timeout) {
            Step::Unsent(request) | Step::Repeat(request) => {
                Miss::before(UpstreamError::Unsent, request)
            }
            Step::Stop(miss) => miss,
        })
    }

    /// Sends the request as one of several on a connection.
    pub(crate) async fn over_http2(
        &self,
        load: InFlightGuard,
        mut request: Request<RequestBody>,
        timeout: &mut ResponseTimeout,
    ) -> Result<Reply, Miss> {
        let counters = &self.worker.runtime.counters;
        let timers = &self.worker.runtime.timers;
        let activity = match &self.activity {
            Some(activity) => Rc::clone(activity),
            None => Activity::new(Rc::clone(timers)),
        };
        for _ in 0..STALE_MAX {
            let (place, given_back) = self.place(&load, request).await?;
            request = given_back;
            if self.may_switch && !place.takes_tunnels() {
                return Err(UpstreamError::NoTunnel.into());
            }
            let copy = self.replay.copy(&request);
            let error = match place.send(request, &activity, timeout).await {
                Ok(response) => {
                    if place.is_reused() {
                        counters.upstream_reuses.increment();
                    }
                    let (head, incoming) = response.into_parts();
                    return Ok(Reply {
                        response: Response::from_parts(head, ()),
                        source: ResponseSource::shared(incoming, place, activity, load),
                    });
                }
                Err(error) => error,
            };
            let failed = Failed {
                error,
                sent: copy,
                connection: if place.is_reused() {
                    Use::Again
                } else {
                    Use::First
                },
                is_clogged: false,
            };
            request = match self.step_after(failed, &load, timeout) {
                Step::Unsent(request) | Step::Repeat(request) => request,
                Step::Stop(miss) => return Err(miss),
            };
            counters.upstream_replays.increment();
        }
        Err(Miss::before(UpstreamError::Unsent, request))
    }

    /// A place for the request on a connection, which may have to be made first.
    async fn place(
        &self,
        load: &InFlightGuard,
        request: Request<RequestBody>,
    ) -> Result<(StreamPermit, Request<RequestBody>), Miss> {
        loop {
            match load.multiplexed.room(&self.worker.runtime.timers).await {
                Room::StreamPermit(place) => return Ok((place, request)),
                Room::Dial(dialling) => {
                    // Boxed, as a connection is for many requests.
                    if let Err(failure) = Box::pin(connect::http2(&self.target(load))).await {
                        // A waiting request may be of another backend, which still has the endpoint.
                        if !matches!(failure, UpstreamError::Left) {
                            dialling.fail();
                        }
                        return Err(Miss::before(failure, request));
                    }
                    self.record.connected();
                }
                Room::Failed => return Err(Miss::before(UpstreamError::Unreached, request)),
                Room::Full => return Err(Miss::before(UpstreamError::Full, request)),
            }
        }
    }

    /// Decides the next step after a failed send, over either protocol.
    fn step_after(&self, failed: Failed, load: &InFlightGuard, timeout: &ResponseTimeout) -> Step {
        let Failed {
            error,
            sent,
            connection,
            is_clogged,
        } = failed;
        let fault = match error {
            SendError::Unsent(request) => return Step::Unsent(*request),
            SendError::TimedOut => return Step::Stop(self.timed_out(timeout, is_clogged).into()),
            SendError::Refused(fault) => {
                // The endpoint says that it has done nothing: another one may do it.
                let failure = self.broken(fault);
                return Step::Stop(match sent {
                    Some(request) => Miss::before(failure, request),
                    None => failure.into(),
                });
            }
            SendError::Broken(Fault::Gone) => {
                let request = sent.filter(|_| self.replay.is_repeatable());
                return Step::Stop(self.gone(load, request));
            }
            SendError::Broken(fault) => fault,
        };
        let repeatable = sent.filter(|_| self.replay.is_repeatable() && is_of_connection(&fault));
        match (repeatable, connection) {
            // A connection that was kept may have been closed while the request was on its way.
            (Some(request), Use::Again) => Step::Repeat(request),
            // An Ingress that names outcomes decides about this one too (`replay.rs`).
            (Some(request), Use::First)
                if self.tried.is_empty() && self.retries.after.is_none() =>
            {
                Step::Stop(Miss::before(self.broken(fault), request))
            }
            (Some(_), Use::First) | (None, _) => Step::Stop(self.broken(fault).into()),
        }
    }

    /// What a connection for it is to be. A session does not move because a packet was lost.
    fn target<'b>(&'b self, load: &'b InFlightGuard) -> ConnectTarget<'b> {
        let has_tries_left = self.tried.len() + 1 < REFUSALS_MAX;
        let Retries {
            after,
            tries_max,
            seconds_max,
        } = self.retries;
        let is_bound = tries_max.is_some()
            || seconds_max.is_some()
            || after.is_some_and(|after| after.has(RetryCause::Off));
        let may_move = self.hint.endpoint.is_none() && !is_bound;
        ConnectTarget {
            upstreams: &self.worker.upstreams,
            backend: &self.backend,
            timeout: self.connect_timeout,
            endpoint: load,
            tried: (has_tries_left && may_move).then_some(&self.tried),
        }
    }

    /// An open connection of this worker, else of another one.
    async fn open_connection(&self, load: &InFlightGuard) -> Option<Box<Upstream>> {
        match self.worker.upstreams.pool.take(load) {
            Some(upstream) => Some(upstream),
            None => Box::pin(connection_sharing::borrow(&self.worker.upstreams, load)).await,
        }
    }

    /// The endpoint has gone, with the request or before it: another one may be asked if `request`
    /// is there.
    fn gone(&self, load: &InFlightGuard, request: Option<Request<RequestBody>>) -> Miss {
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
            Progress::TooSlow => ProxyError::RequestTimedOut,
            Progress::Streaming | Progress::Done => UpstreamError::Broken(fault).into(),
        }
    }

    /// Nothing moved for too long. Whose fault that was: `is_clogged` if there was something to
    /// send.
    fn timed_out(&self, timeout: &ResponseTimeout, is_clogged: bool) -> ProxyError {
        if timeout.is_past_deadline() {
            return ProxyError::DeadlineExceeded;
        }
        match self.progress() {
            Progress::Streaming if !is_clogged => ProxyError::RequestTimedOut,
            Progress::Failed => ProxyError::BadRequestBody,
            Progress::TooLarge => ProxyError::BodyTooLarge,
            Progress::TooSlow => ProxyError::RequestTimedOut,
            Progress::Streaming | Progress::Done => UpstreamError::ResponseTimedOut.into(),
        }
    }

    fn progress(&self) -> Progress {
        let upload = self.replay.upload();
        upload.map_or(Progress::Done, Upload::progress)
    }
}

/// Whether the connection has failed, not what the endpoint has sent on it.
fn is_of_connection(fault: &Fault) -> bool {
    match fault {
        Fault::Broken(_) | Fault::Closed | Fault::Gone => true,
        Fault::Http2(_) => !is_reset(fault),
        Fault::RequestBody | Fault::Head(_) | Fault::Body(_) => false,
    }
}
