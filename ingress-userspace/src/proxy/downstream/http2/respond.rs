//! The task that answers one request.
//!
//! Bodies are read no faster than the client takes them: nothing is asked of an endpoint before
//! there is a window for it and room in the connection's output.

use std::error::Error as _;
use std::future::poll_fn;
use std::iter;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderValue};
use http::{Request, Response, response};
use ingress_wire::http2::frame::Reason;

use super::session::Session;
use super::stream::Stream;
use crate::proxy::request::connection::Connection;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::phases;
use crate::proxy::request::response_body::ResponseBody;
use crate::proxy::runtime::client_body::Incoming;
use crate::proxy::runtime::splice::Chunk;
use crate::proxy::runtime::timer::Alarm;
use crate::proxy::upstream::error::BodyError;

/// A stream that is being answered. One that is dropped before it was is reset: its task has ended
/// by a panic.
pub(crate) struct Answering {
    stream: Rc<Stream>,
    session: Rc<Session>,
    /// Whether others see to its end.
    is_over: bool,
}

impl Answering {
    pub(crate) fn new(stream: Rc<Stream>, session: Rc<Session>) -> Self {
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
            let mut responding = pin!(phases::respond(connection, request));
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
        let mut wait = Wait {
            worker,
            alarm: None,
        };
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
        ready!(self.poll_window(wait, cx))?;
        let Poll::Ready(frame) = body.poll_frame(cx) else {
            // The client may give up meanwhile.
            self.stream.wait(cx);
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
        let (timers, limit) = (
            &wait.worker.runtime.timers,
            wait.worker.runtime.timeouts.downstream_write,
        );
        let alarm = &mut wait.alarm;
        if alarm
            .get_or_insert_with(|| timers.alarm(limit, cx.waker()))
            .fired()
        {
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
            session.send(stream, some, is_end);
            if is_end {
                session.answered(stream);
            }
        }
        Ok(())
    }
}

/// For how long a client may take nothing.
struct Wait<'a> {
    worker: &'a WorkerContext,
    alarm: Option<Alarm>,
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

impl Drop for Answering {
    fn drop(&mut self) {
        if !self.is_over && self.stream.is_reset().is_none() && !self.stream.is_answered() {
            self.session.reset(self.stream.id, Reason::INTERNAL_ERROR);
        }
    }
}
