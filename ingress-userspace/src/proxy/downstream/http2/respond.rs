//! The task that answers one request.
//!
//! Bodies are read no faster than the client takes them: nothing is asked of an endpoint before
//! there is a window for it and room in the connection's output, and no more than there is room for.
//! A stream that waits for its client keeps no large buffer, and is ended when it is among those
//! that have waited longest while the worker has no memory for more.

use std::error::Error as _;
use std::future::poll_fn;
use std::iter;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use http::{Request, Response, response};
use ingress_wire::http2::frame::Reason;

use super::session::SharedState;
use super::stream::Stream;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::phases;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::runtime::bulk::BulkPermit;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::limits::{
    CONNECTION_BUFFER_BYTES_MAX, HELD_BYTES_MAX, READ_BYTES_MIN, STALLED_STREAM_BYTES,
};
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::stalls::Stall;
use crate::proxy::runtime::timer::Alarm;
use crate::proxy::upstream::error::BodyError;

/// A stream that is being answered. One that is dropped before it was is reset: its task has ended
/// by a panic.
pub(crate) struct Responder {
    stream: Rc<Stream>,
    session: Rc<SharedState>,
    /// Whether others see to its end.
    is_over: bool,
}

impl Responder {
    pub(crate) fn new(stream: Rc<Stream>, session: Rc<SharedState>) -> Self {
        Self {
            stream,
            session,
            is_over: false,
        }
    }

    /// Answers a request, unless its client gives up.
    pub(crate) async fn run(mut self, connection: Rc<Connection>, request: Request<Incoming>) {
        let worker = Rc::clone(&connection.worker);
        let response = {
            // In the heap until there is a response: what waits for its client has no room for it.
            let mut responding = Box::pin(phases::respond(connection, request));
            let response = poll_fn(|cx| {
                if self.poll_reset(cx).is_ready() {
                    return Poll::Ready(None);
                }
                responding.as_mut().poll(cx).map(Some)
            });
            response.await
        };
        let outcome = match response {
            Some(response) => self.send(response, &worker).await,
            None => Ok(()),
        };
        if let Err(reason) = outcome
            && self.stream.is_reset().is_none()
        {
            self.session.reset(self.stream.id, reason);
        }
        self.is_over = true;
    }

    fn poll_reset(&self, cx: &Context<'_>) -> Poll<()> {
        if self.stream.is_reset().is_some() {
            return Poll::Ready(());
        }
        self.stream.wait(cx);
        Poll::Pending
    }

    async fn send(
        &self,
        response: Response<ResponseBody>,
        worker: &WorkerContext,
    ) -> Result<(), Reason> {
        let (stream, session) = (&self.stream, &self.session);
        if response.body().is_withheld() {
            return Err(Reason::CANCEL);
        }
        let (mut head, mut body) = response.into_parts();
        poll_fn(|cx| session.poll_room(stream, cx)).await?;
        let is_tunnel = stream.is_connect && head.status.is_success();
        let is_end = body.is_end_stream() && !is_tunnel;
        let added = added(&mut head, &body, || worker.runtime.date());
        session.respond(stream, &head, is_end, &added);
        if is_tunnel {
            stream.begin_tunnel();
            return Ok(());
        }
        if is_end {
            session.answered(stream);
            return Ok(());
        }
        drop((head, added));
        let mut wait = Wait::new(worker);
        while let Some(step) = poll_fn(|cx| self.poll_step(&mut body, &mut wait, cx)).await? {
            match step {
                Step::Some(chunk) => {
                    let is_last = body.is_end_stream();
                    self.send_chunk(chunk, is_last, &mut wait).await?;
                }
                Step::Trailers(trailers) => {
                    session.send_trailers(stream, &trailers);
                    session.answered(stream);
                }
            }
            if stream.is_answered() {
                return Ok(());
            }
        }
        session.send(stream, Bytes::new(), true);
        session.answered(stream);
        Ok(())
    }

    /// The next frame of a body, once the client takes some.
    fn poll_step(
        &self,
        body: &mut ResponseBody,
        wait: &mut Wait<'_>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Step>, Reason>> {
        let Poll::Ready(room) = self.poll_window(wait, cx)? else {
            wait.let_go(body);
            return Poll::Pending;
        };
        let bytes_max = wait.bytes_max(room, self.session.window(&self.stream));
        let Poll::Ready(frame) = body.poll_frame(bytes_max, cx) else {
            // The client may give up meanwhile.
            self.stream.wait(cx);
            wait.let_go(body);
            wait.stall = None;
            return Poll::Pending;
        };
        let Some(frame) = frame else {
            return Poll::Ready(Ok(None));
        };
        let frame = frame.map_err(|error| reason(&error))?;
        let step = match frame.into_data() {
            Ok(Chunk::Bytes(bytes)) => Step::Some(bytes),
            // Only HTTP/1 clients are answered through pipes.
            Ok(Chunk::Spliced(_)) => return Poll::Ready(Err(Reason::INTERNAL_ERROR)),
            Err(frame) => Step::Trailers(frame.into_trailers().unwrap_or_default()),
        };
        Poll::Ready(Ok(Some(step)))
    }

    /// Waits for room for bytes of a body. A client that opens no window has as much time as one that
    /// reads nothing from its socket: what else it sends does not keep a stream alive.
    fn poll_window(&self, wait: &mut Wait<'_>, cx: &Context<'_>) -> Poll<Result<usize, Reason>> {
        let room = self.session.poll_window(&self.stream, cx);
        if room.is_ready() {
            wait.alarm = None;
            return room;
        }
        if wait.is_over(cx) {
            return Poll::Ready(Err(Reason::CANCEL));
        }
        Poll::Pending
    }

    /// Sends bytes as the client takes them.
    async fn send_chunk(
        &self,
        mut chunk: Bytes,
        is_last: bool,
        wait: &mut Wait<'_>,
    ) -> Result<(), Reason> {
        let (stream, session) = (&self.stream, &self.session);
        while chunk.has_remaining() {
            let room = poll_fn(|cx| self.poll_window(wait, cx)).await?;
            let some = chunk.split_to(room.min(chunk.len()));
            let is_end = is_last && chunk.is_empty();
            wait.sent(some.len());
            session.send(stream, some, is_end);
            if is_end {
                session.answered(stream);
            }
        }
        Ok(())
    }
}

/// For how long a client may take nothing, and what may be held for it.
struct Wait<'a> {
    worker: &'a WorkerContext,
    alarm: Option<Alarm>,
    /// Since it has taken as much as a stalled stream holds.
    stall: Option<Stall>,
    /// Bytes that it has taken since the stall began.
    taken: usize,
    permit: Option<BulkPermit>,
}

impl<'a> Wait<'a> {
    fn new(worker: &'a WorkerContext) -> Self {
        Self {
            worker,
            alarm: None,
            stall: None,
            taken: 0,
            permit: None,
        }
    }

    /// Whether the client has taken nothing for too long, or others need the memory.
    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let worker = &self.worker.runtime;
        let (timers, limit) = (&worker.timers, worker.timeouts.downstream_write);
        let new_alarm = || timers.alarm(limit, cx.waker());
        let has_fired = self.alarm.get_or_insert_with(new_alarm).fired();
        let new_stall = || {
            let stalls = &worker.memory.stalls;
            stalls.begin(STALLED_STREAM_BYTES, timers.now(), cx.waker())
        };
        has_fired || self.stall.get_or_insert_with(new_stall).is_ended()
    }

    /// Counts bytes that the client takes. A client that takes them one by one still stalls.
    fn sent(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken >= STALLED_STREAM_BYTES {
            self.stall = None;
            self.taken = 0;
        }
    }

    /// How many bytes may be read at once, of which there is room for `room` now and a window for
    /// `window`.
    fn bytes_max(&mut self, room: usize, window: usize) -> usize {
        if window > HELD_BYTES_MAX && self.permit.is_none() {
            self.permit = self.worker.runtime.memory.bulk.take();
        }
        let bulk = window.min(CONNECTION_BUFFER_BYTES_MAX);
        let bytes = if self.permit.is_some() { bulk } else { room };
        bytes.max(READ_BYTES_MIN)
    }

    /// Keeps no large buffer while the client or the endpoint is waited for.
    fn let_go(&mut self, body: &mut ResponseBody) {
        if body.let_go() <= HELD_BYTES_MAX {
            self.permit = None;
        }
    }
}

enum Step {
    Some(Bytes),
    Trailers(HeaderMap),
}

/// Why a response breaks off: for what its endpoint has said, if it speaks HTTP/2.
fn reason(error: &BodyError) -> Reason {
    let sources = iter::successors(error.source(), |error| (*error).source());
    let mut said = sources.filter_map(|error| error.downcast_ref::<h2::Error>()?.reason());
    said.next().map_or(Reason::INTERNAL_ERROR, |reason| {
        Reason::of(u32::from(reason))
    })
}

/// What a response says beside what its endpoint has said: when it was made (RFC 9110 §6.6.1), and
/// how long it is, where that is known.
fn added(
    head: &mut response::Parts,
    body: &ResponseBody,
    date: impl FnOnce() -> HeaderValue,
) -> HeaderMap {
    let mut added = HeaderMap::new();
    head.headers.remove(CONNECTION);
    if !head.headers.contains_key(DATE) {
        added.insert(DATE, date());
    }
    if !body.is_end_stream()
        && let Some(length) = body.exact_length()
        && !head.headers.contains_key(CONTENT_LENGTH)
    {
        added.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    added
}

impl Drop for Responder {
    fn drop(&mut self) {
        if !self.is_over && self.stream.is_reset().is_none() && !self.stream.is_answered() {
            self.session.reset(self.stream.id, Reason::INTERNAL_ERROR);
        }
    }
}
