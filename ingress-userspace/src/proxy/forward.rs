//! One request from its head to the head of its response.
//!
//! Route, endpoint, connection, exchange; every way that this can fail is a [`Failure`], which
//! becomes an answer of our own in one place.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode, request};
use hyper::body::Incoming;

use super::backend::{BackendSlot, Destination};
use super::body::{Progress, RequestBody, ResponseBody};
use super::connection::{Connection, InFlight};
use super::error::Failure;
use super::limits::STALE_MAX;
use super::upstream::{Patience, SendError, Upstream};
use super::worker::WorkerState;
use super::{request as head, response};

/// Answers a request, one way or another.
pub(super) async fn respond(
    connection: Rc<Connection>,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    let in_flight = connection.begin();
    let counters = connection.worker.counters.datapath(connection.datapath);
    counters.requests.increment();
    let response = match forward(&connection, request).await {
        Ok(answer) => answer.into_response(in_flight),
        Err(failure) => {
            tracing::debug!(error = &failure as &dyn std::error::Error, "request failed");
            response::failure(&failure, in_flight)
        }
    };
    counters.respond(response.status());
    response
}

/// A response head from an endpoint, with all that is needed to read its body.
struct Answer {
    response: Response<Incoming>,
    upstream: Box<Upstream>,
    patience: Patience,
}

impl Answer {
    fn into_response(self, in_flight: InFlight) -> Response<ResponseBody> {
        let (mut head, incoming) = self.response.into_parts();
        response::rewrite(&mut head);
        let body = ResponseBody::upstream(incoming, self.upstream, self.patience, in_flight);
        Response::from_parts(head, body)
    }
}

async fn forward(
    connection: &Rc<Connection>,
    request: Request<Incoming>,
) -> Result<Answer, Failure> {
    let worker = &connection.worker;
    let (mut head, incoming) = request.into_parts();
    let (address, way) = endpoint(worker, &head)?;
    head::rewrite(&mut head, connection);
    let (body, upload) = RequestBody::new(incoming);
    let request = Request::from_parts(head, body);
    let mut patience = Patience::new(&worker.timers, worker.timeouts.response_head);
    let exchange = Exchange {
        worker,
        address,
        upload,
    };
    let (response, upstream) = exchange.run(request, way, &mut patience).await?;
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Failure::Switched);
    }
    patience.set_limit(worker.timeouts.body_idle);
    Ok(Answer {
        response,
        upstream,
        patience,
    })
}

/// The endpoint that a request goes to.
fn endpoint(worker: &WorkerState, head: &request::Parts) -> Result<(SocketAddr, Way), Failure> {
    let authority = head::authority(head)?;
    let mut table = worker.table.borrow_mut();
    let route = table
        .load()
        .routes()
        .find(authority, head.uri.path())
        .ok_or(Failure::NoRoute)?;
    match &route.payload {
        Destination::Backend(slot) => {
            let address = slot.pick(worker.turn(slot.id)).ok_or(Failure::NoEndpoint)?;
            Ok((address, Way::to(worker, address, slot)))
        }
        Destination::Unavailable => Err(Failure::Unavailable),
    }
}

/// How an endpoint is reached.
enum Way {
    /// Over this connection.
    Idle(Box<Upstream>),
    /// Over a new one, on behalf of this backend.
    Fresh(Arc<BackendSlot>),
}

impl Way {
    /// The slot is shared by all workers: its reference count stays untouched in the usual case.
    fn to(worker: &WorkerState, address: SocketAddr, backend: &Arc<BackendSlot>) -> Self {
        match worker.pool.take(address) {
            Some(upstream) => Self::Idle(upstream),
            None => Self::Fresh(Arc::clone(backend)),
        }
    }
}

/// One request and the endpoint that it is for.
struct Exchange<'a> {
    worker: &'a Rc<WorkerState>,
    address: SocketAddr,
    /// How far the request body has come, if there is one.
    upload: Option<Rc<Cell<Progress>>>,
}

impl Exchange<'_> {
    /// Sends the request over an idle connection if there is one that works, else over a new one.
    async fn run(
        &self,
        mut request: Request<RequestBody>,
        mut way: Way,
        patience: &mut Patience,
    ) -> Result<(Response<Incoming>, Box<Upstream>), Failure> {
        let is_replayable = self.is_replayable(&request);
        for _ in 0..STALE_MAX {
            let Way::Idle(mut upstream) = way else {
                break;
            };
            if is_replayable {
                upstream.record();
            } else {
                upstream.probe();
            }
            match upstream.send(request, patience).await {
                Ok(response) => {
                    self.worker.counters.upstream_reuses.increment();
                    return Ok((response, upstream));
                }
                Err(SendError::Unsent(unsent)) => {
                    request = *unsent;
                    way = Way::to(self.worker, self.address, &upstream.backend);
                }
                // The endpoint closed the connection while the request was on its way.
                Err(SendError::Broken(error)) => {
                    let recorded = is_replayable.then(|| upstream.recorded()).flatten();
                    request = recorded.ok_or_else(|| self.broken(error))?;
                    self.worker.counters.upstream_replays.increment();
                    // Once is enough: a new connection is not closed for having been idle.
                    way = Way::Fresh(Arc::clone(&upstream.backend));
                }
                Err(SendError::TimedOut) => return Err(self.timed_out()),
            }
        }
        let backend = match way {
            Way::Idle(stale) => Arc::clone(&stale.backend),
            Way::Fresh(backend) => backend,
        };
        let mut upstream = self.connect(backend).await?;
        match upstream.send(request, patience).await {
            Ok(response) => Ok((response, upstream)),
            Err(SendError::Unsent(_)) => Err(Failure::Unsent),
            Err(SendError::Broken(error)) => Err(self.broken(error)),
            Err(SendError::TimedOut) => Err(self.timed_out()),
        }
    }

    /// Whether a request may be sent twice: idempotent by its method and without a body
    /// (RFC 9110 §9.2.2).
    fn is_replayable(&self, request: &Request<RequestBody>) -> bool {
        self.upload.is_none() && request.method().is_idempotent()
    }

    async fn connect(&self, backend: Arc<BackendSlot>) -> Result<Box<Upstream>, Failure> {
        let worker = self.worker;
        let connecting = Upstream::connect(&*worker.dial, self.address, backend, &worker.timers);
        let limit = worker.timeouts.upstream_connect;
        let outcome = worker.timers.timeout(limit, connecting).await;
        if let Some(Ok(upstream)) = outcome {
            worker.counters.upstream_connects.increment();
            return Ok(upstream);
        }
        worker.counters.upstream_connect_failures.increment();
        match outcome {
            Some(Err(error)) => Err(Failure::Connect(error)),
            Some(Ok(_)) | None => Err(Failure::ConnectTimedOut),
        }
    }

    fn broken(&self, error: hyper::Error) -> Failure {
        match self.progress() {
            Progress::Failed => Failure::BadRequestBody,
            Progress::Streaming | Progress::Done => Failure::Broken(error),
        }
    }

    fn timed_out(&self) -> Failure {
        match self.progress() {
            Progress::Streaming => Failure::RequestTimedOut,
            Progress::Failed => Failure::BadRequestBody,
            Progress::Done => Failure::ResponseTimedOut,
        }
    }

    fn progress(&self) -> Progress {
        self.upload
            .as_ref()
            .map_or(Progress::Done, |progress| progress.get())
    }
}
