//! The gather phase: the first part of a request body is read before an endpoint is chosen, so that
//! a client that sends slowly holds none.
//!
//! Source: nginx, `proxy_request_buffering on`. What is longer than [`KEPT_BYTES_MAX`] is streamed
//! after that.
//!
//! Invariant: what is gathered counts among what the worker holds for clients that it waits for.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::header::CONTENT_TYPE;
use http::request;
use http_body::Body as _;
use ingress_core::ir::{RequestBuffering, RouteTimeouts};

use crate::proxy::observe::metrics::record::RequestRecord;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::error::ProxyError;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::limits::{GATHERED_BYTES_MIN, KEPT_BYTES_MAX};
use crate::proxy::runtime::stalls::Stall;
use crate::proxy::runtime::stream::ClientTunnel;
use crate::proxy::runtime::timer::Alarm;
use crate::proxy::runtime::upload::{Pace, Progress, Upload};
use crate::proxy::upstream::pool::Backend;
use crate::proxy::upstream::request_body::RequestBody;
use crate::proxy::upstream::response_timeout::ResponseTimeout;
use crate::proxy::upstream::timeouts::EffectiveTimeouts;

/// How the body of a request is to be received.
pub(crate) struct Receive<'a> {
    pub(crate) worker: &'a WorkerContext,
    pub(crate) record: &'a RequestRecord,
    pub(crate) backend: Rc<Backend>,
    pub(crate) timeouts: RouteTimeouts,
    /// Bytes that it may have.
    pub(crate) bytes_max: u64,
    pub(crate) buffering: RequestBuffering,
    pub(crate) deadline: Option<Instant>,
}

/// A request with the gathered part of its body.
pub(crate) struct Received {
    /// With the endpoints that it has now.
    pub(crate) backend: Rc<Backend>,
    pub(crate) body: RequestBody,
    pub(crate) upload: Option<Rc<Upload>>,
    pub(crate) tunnel: Option<Box<dyn ClientTunnel>>,
    pub(crate) waits: EffectiveTimeouts,
    pub(crate) timeout: ResponseTimeout,
}

impl Receive<'_> {
    /// Waits for the first part of a body, where its route and its kind let it.
    ///
    /// # Errors
    ///
    /// Those of [`gather`].
    pub(crate) async fn run(
        self,
        head: &request::Parts,
        mut incoming: Incoming,
    ) -> Result<Received, ProxyError> {
        let WorkerContext {
            runtime,
            upstreams,
            limits,
            ..
        } = self.worker;
        let tunnel = incoming.take_tunnel(&head.method);
        let may_gather =
            self.buffering == RequestBuffering::On && tunnel.is_none() && !incoming.asks_upgrade();
        let pace = Pace::new(&runtime.timers, limits.body_rate_min);
        let (mut body, upload) = RequestBody::new(incoming, self.bytes_max, pace);
        self.record.uploads(upload.as_ref());
        let waits = EffectiveTimeouts::new(upstreams.pool.timeouts(), self.timeouts);
        let timeout = ResponseTimeout::new(&runtime.timers, &waits, self.deadline, upload.clone());
        let mut backend = self.backend;
        if may_gather && applies(head, &body, backend.is_multiplexed()) {
            let pause = waits.client_body.min(timeout.until_deadline());
            Box::pin(gather(&mut body, runtime, pause)).await?;
            backend = upstreams.pool.again(&backend, runtime.timers.now());
        }
        Ok(Received {
            backend,
            body,
            upload,
            tunnel,
            waits,
            timeout,
        })
    }
}

/// Whether the body of a request is one that is gathered where its route asks for that: messages of
/// gRPC answer each other, and so may what is streamed to an endpoint over HTTP/2.
fn applies(head: &request::Parts, body: &RequestBody, is_multiplexed: bool) -> bool {
    // Most requests have no body, and none of them pays for a look at its fields.
    if body.is_end_stream() {
        return false;
    }
    let content_type = head.headers.get(CONTENT_TYPE);
    let is_grpc = content_type.is_some_and(|value| value.as_bytes().starts_with(GRPC));
    let is_stream = is_multiplexed && body.size_hint().exact().is_none();
    !is_grpc && !is_stream
}

/// Waits for the first part of a body, with at most `pause` between two reads.
///
/// # Errors
///
/// [`ProxyError::RequestTimedOut`] if the client sends nothing for longer, too slowly, or while
/// others need the memory; [`ProxyError::BadRequestBody`] and [`ProxyError::BodyTooLarge`] for what
/// it sends.
async fn gather(
    body: &mut RequestBody,
    runtime: &Runtime,
    pause: Duration,
) -> Result<(), ProxyError> {
    let expected = body.size_hint().exact().unwrap_or(u64::MAX);
    let room = usize::try_from(expected).unwrap_or(usize::MAX);
    let mut wait = Wait {
        runtime,
        pause,
        bytes: room.clamp(GATHERED_BYTES_MIN, KEPT_BYTES_MAX),
        alarm: None,
        stall: None,
    };
    poll_fn(|cx| wait.poll(body, cx)).await
}

/// The timeouts for a client to send its body.
struct Wait<'a> {
    runtime: &'a Runtime,
    pause: Duration,
    /// Memory that the body may take.
    bytes: usize,
    alarm: Option<Alarm>,
    stall: Option<Stall>,
}

impl Wait<'_> {
    fn poll(
        &mut self,
        body: &mut RequestBody,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ProxyError>> {
        loop {
            match body.poll_gather(KEPT_BYTES_MAX, cx) {
                Poll::Ready(Ok(true)) => return Poll::Ready(Ok(())),
                Poll::Ready(Ok(false)) => self.alarm = None,
                Poll::Ready(Err(progress)) => return Poll::Ready(Err(failure(progress))),
                Poll::Pending if self.is_over(cx) => {
                    return Poll::Ready(Err(ProxyError::RequestTimedOut));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let Runtime { timers, memory, .. } = self.runtime;
        let new_alarm = || timers.alarm(self.pause, cx.waker());
        let has_fired = self.alarm.get_or_insert_with(new_alarm).fired();
        let new_stall = || memory.stalls.begin(self.bytes, timers.now(), cx.waker());
        has_fired || self.stall.get_or_insert_with(new_stall).is_ended()
    }
}

fn failure(progress: Progress) -> ProxyError {
    match progress {
        Progress::TooLarge => ProxyError::BodyTooLarge,
        Progress::TooSlow => ProxyError::RequestTimedOut,
        Progress::Failed | Progress::Streaming | Progress::Done => ProxyError::BadRequestBody,
    }
}

const GRPC: &[u8] = b"application/grpc";
