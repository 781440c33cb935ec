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
    let (backend, address) = endpoint(worker, &head)?;
    head::rewrite(&mut head, connection);
    let (body, upload) = RequestBody::new(incoming);
    let request = Request::from_parts(head, body);
    let mut patience = Patience::new(&worker.timers, worker.timeouts.response_head);
    let exchange = Exchange {
        worker,
        backend,
        address,
        upload,
    };
    let (response, upstream) = exchange.run(request, &mut patience).await?;
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
fn endpoint(
    worker: &WorkerState,
    head: &request::Parts,
) -> Result<(Arc<BackendSlot>, SocketAddr), Failure> {
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
            Ok((Arc::clone(slot), address))
        }
        Destination::Unavailable => Err(Failure::Unavailable),
    }
}

/// One request and the endpoint that it is for.
struct Exchange<'a> {
    worker: &'a Rc<WorkerState>,
    backend: Arc<BackendSlot>,
    address: SocketAddr,
    /// How far the request body has come, if there is one.
    upload: Option<Rc<Cell<Progress>>>,
}

impl Exchange<'_> {
    /// Sends the request over an idle connection if there is one that works, else over a new one.
    async fn run(
        &self,
        mut request: Request<RequestBody>,
        patience: &mut Patience,
    ) -> Result<(Response<Incoming>, Box<Upstream>), Failure> {
        for _ in 0..STALE_MAX {
            let Some(mut upstream) = self.worker.pool.take(self.address) else {
                break;
            };
            let replay = self.replay(&request);
            if replay.is_none() {
                upstream.probe();
            }
            match upstream.send(request, patience).await {
                Ok(response) => {
                    self.worker.counters.upstream_reuses.increment();
                    return Ok((response, upstream));
                }
                Err(SendError::Unsent(unsent)) => request = *unsent,
                // The endpoint closed the connection while the request was on its way.
                Err(SendError::Broken(error)) => match replay {
                    Some(copy) => {
                        self.worker.counters.upstream_replays.increment();
                        request = copy;
                    }
                    None => return Err(self.broken(error)),
                },
                Err(SendError::TimedOut) => return Err(self.timed_out()),
            }
        }
        let mut upstream = self.connect().await?;
        match upstream.send(request, patience).await {
            Ok(response) => Ok((response, upstream)),
            Err(SendError::Unsent(_)) => Err(Failure::Unsent),
            Err(SendError::Broken(error)) => Err(self.broken(error)),
            Err(SendError::TimedOut) => Err(self.timed_out()),
        }
    }

    /// A copy of a request that may be sent twice: idempotent by its method and without a body
    /// (RFC 9110 §9.2.2).
    fn replay(&self, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
        if self.upload.is_some() || !request.method().is_idempotent() {
            return None;
        }
        let mut copy = Request::new(RequestBody::empty());
        copy.method_mut().clone_from(request.method());
        copy.uri_mut().clone_from(request.uri());
        copy.headers_mut().clone_from(request.headers());
        Some(copy)
    }

    async fn connect(&self) -> Result<Box<Upstream>, Failure> {
        let worker = self.worker;
        let backend = Arc::clone(&self.backend);
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
