//! The socket of an HTTP/1 client. The connection writes responses to it and the body of a request
//! reads from it; both are polled by the task of the connection.
//!
//! Heads are read into the worker's scratch and parsed there, so that a connection between two
//! requests has no buffer. Bytes after a head, and heads that come in parts, are kept in a buffer
//! until they are used.

use std::cell::{RefCell, RefMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http::HeaderMap;
use http_body::Frame;
use ingress_wire::http1::{
    BodyDecoder, BodyError, Decoded, FieldRanges, HeadBounds, RequestError, RequestHead,
    RequestReader, is_preface, may_become_preface,
};
use ingress_wire::limits::FIELDS_MAX;
use tokio::io::{AsyncRead as _, AsyncWrite as _, ReadBuf};

use crate::proxy::request::connection::Connection;
use crate::proxy::request::context::WorkerContext;
use crate::proxy::runtime::bulk::BulkPermit;
use crate::proxy::runtime::client_body::IncomingError;
use crate::proxy::runtime::context::Runtime;
use crate::proxy::runtime::fairness::FairnessBudget;
use crate::proxy::runtime::limits::{
    BULK_BYTES_MIN, BULK_HELD_BYTES_MAX, STALLED_CONNECTION_BYTES, TLS_HELD_BYTES_MAX,
    TUNNEL_READ_BYTES_MAX,
};
use crate::proxy::runtime::monitored::Activity;
use crate::proxy::runtime::pipe::Pipe;
use crate::proxy::runtime::read_buffer::ReadBuffer;
use crate::proxy::runtime::splice::poll_send_more;
use crate::proxy::runtime::stalls::Stall;
use crate::proxy::runtime::stream::{ClientStream, Joined as _, Stream as _};

/// A socket, shared by a connection and the body of its request.
pub(crate) struct ClientIo {
    worker: Rc<WorkerContext>,
    activity: Rc<Activity>,
    head_bounds: HeadBounds,
    inner: RefCell<Inner>,
}

struct Inner {
    stream: ClientStream,
    buffer: ReadBuffer,
    /// What is still to come of the request's body.
    body: BodyDecoder,
    /// What the client waits for before it sends the body.
    interim: Interim,
    turn: FairnessBudget,
}

/// An interim response that tells a client to go on (RFC 9110 §10.1.1).
enum Interim {
    /// Nobody waits for one.
    None,
    /// It is due when the body is asked for.
    Expected,
    /// These bytes of it are still to be written.
    Due(&'static [u8]),
}

/// What has come where a request would begin.
#[expect(
    clippy::large_enum_variant,
    reason = "a head is moved once, and a box would be an allocation for each request"
)]
pub(super) enum Arrival {
    Request(RequestHead),
    /// The preface of HTTP/2, all of which is still in the buffer.
    Preface,
    /// Something that is to be refused.
    Refused(RequestError),
    /// The client has closed the connection, or it broke.
    Closed,
}

/// What is kept from one head to the next, for its room.
#[derive(Default)]
pub(super) struct HeadScratch {
    pub(super) reader: RequestReader,
    pub(super) ranges: FieldRanges,
    pub(super) headers: HeaderMap,
}

impl ClientIo {
    pub(super) fn new(mut stream: ClientStream, connection: &Connection) -> Rc<Self> {
        stream.set_held(TLS_HELD_BYTES_MAX);
        let worker = Rc::clone(&connection.worker);
        Rc::new(Self {
            head_bounds: HeadBounds {
                bytes_max: worker.limits.head_bytes_max as usize,
                fields_max: FIELDS_MAX,
            },
            worker,
            activity: Rc::clone(&connection.activity),
            inner: RefCell::new(Inner {
                stream,
                buffer: ReadBuffer::default(),
                body: BodyDecoder::Over,
                interim: Interim::None,
                turn: FairnessBudget::default(),
            }),
        })
    }

    /// Whether there may be bytes in it that have left the socket.
    pub(super) fn may_hold_bytes(&self) -> bool {
        self.inner.borrow().stream.may_hold_bytes()
    }

    /// Writes what TLS holds back, and waits for bytes.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        // The next read learns of errors.
        let _ = ready!(Pin::new(&mut inner.stream).poll_flush(cx));
        inner.stream.tcp().poll_read_ready(cx).map(drop)
    }

    /// Waits for the head of a request. `is_first`: it would be the first of its connection.
    pub(super) fn poll_head(
        &self,
        is_first: bool,
        scratch: &mut HeadScratch,
        cx: &mut Context<'_>,
    ) -> Poll<Arrival> {
        let inner = &mut *self.inner.borrow_mut();
        loop {
            if inner.buffer.bytes.is_empty() {
                if let Some(arrival) = ready!(self.poll_fresh(inner, is_first, scratch, cx)) {
                    return Poll::Ready(arrival);
                }
            } else if let Some(arrival) = self.parse(&inner.buffer.bytes, is_first, scratch) {
                if let Arrival::Request(head) = &arrival {
                    inner.buffer.bytes.advance(head.length);
                }
                return Poll::Ready(arrival);
            } else {
                self.note_partial_head(inner, scratch);
                match ready!(inner.buffer.poll_read(&mut inner.stream, cx)) {
                    Ok(0) | Err(_) => return Poll::Ready(Arrival::Closed),
                    Ok(_) => self.activity.touch(),
                }
            }
        }
    }

    /// Reads into the worker's scratch. `None`: what has come is not all of a head.
    fn poll_fresh(
        &self,
        inner: &mut Inner,
        is_first: bool,
        scratch: &mut HeadScratch,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Arrival>> {
        let mut room = self.scratch();
        let mut read = ReadBuf::new(&mut room);
        let outcome = ready!(Pin::new(&mut inner.stream).poll_read(cx, &mut read));
        let bytes = read.filled();
        if outcome.is_err() || bytes.is_empty() {
            return Poll::Ready(Some(Arrival::Closed));
        }
        self.activity.touch();
        let arrival = self.parse(bytes, is_first, scratch);
        let used = match &arrival {
            Some(Arrival::Request(head)) => head.length,
            Some(_) | None => 0,
        };
        if used < bytes.len() {
            inner.buffer.bytes.extend_from_slice(&bytes[used..]);
        }
        Poll::Ready(arrival)
    }

    /// Room of the worker that every connection reads into.
    fn scratch(&self) -> RefMut<'_, [u8]> {
        let mut room = self.worker.runtime.scratch.borrow_mut();
        if room.len() < TUNNEL_READ_BYTES_MAX {
            room.resize(TUNNEL_READ_BYTES_MAX, 0);
        }
        RefMut::map(room, |room| &mut room[..FRESH_BYTES_MAX])
    }

    fn parse(&self, bytes: &[u8], is_first: bool, scratch: &mut HeadScratch) -> Option<Arrival> {
        if is_first && bytes.starts_with(b"P") {
            if is_preface(bytes) {
                return Some(Arrival::Preface);
            }
            if may_become_preface(bytes) {
                return None;
            }
        }
        let HeadScratch {
            reader,
            ranges,
            headers,
        } = scratch;
        match reader.read(bytes, self.head_bounds, ranges, headers) {
            Ok(Some(head)) => Some(Arrival::Request(head)),
            Ok(None) => None,
            Err(error) => Some(Arrival::Refused(error)),
        }
    }

    /// Notes whether a request has begun; empty lines before one are forgotten (RFC 9112 §2.2).
    fn note_partial_head(&self, inner: &mut Inner, scratch: &mut HeadScratch) {
        let bytes = &mut inner.buffer.bytes;
        if RequestReader::empty_lines(bytes) == bytes.len() {
            bytes.clear();
            scratch.reader = RequestReader::default();
        }
        self.activity.begin_request(!bytes.is_empty());
    }

    /// Begins the body of a request.
    pub(super) fn begin_body(&self, body: BodyDecoder, expects_continue: bool) {
        let inner = &mut *self.inner.borrow_mut();
        inner.body = body;
        let is_due = expects_continue && inner.buffer.bytes.is_empty();
        inner.interim = if is_due {
            Interim::Expected
        } else {
            Interim::None
        };
        self.activity.begin_request(true);
    }

    /// Whether all of the request's body was read.
    pub(crate) fn is_body_over(&self) -> bool {
        self.inner.borrow().body.is_over()
    }

    /// How many bytes of the body are still to come, if that is known.
    pub(crate) fn body_left(&self) -> Option<u64> {
        self.inner.borrow().body.left()
    }

    /// The next piece of the request's body, or its trailer fields; `None` is its end.
    pub(crate) fn poll_body(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        let inner = &mut *self.inner.borrow_mut();
        self.poll_interim(inner, cx)?;
        loop {
            match inner.body.decode(&mut inner.buffer.bytes)? {
                Decoded::Data(data) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Decoded::Trailers(trailers) => {
                    return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                }
                Decoded::End => return Poll::Ready(None),
                Decoded::Nothing => {}
            }
            ready!(inner.turn.poll(cx));
            let count = ready!(inner.buffer.poll_read(&mut inner.stream, cx))?;
            self.activity.touch();
            if count == 0 {
                return Poll::Ready(Some(Err(BodyError::Closed.into())));
            }
            if count >= BULK_BYTES_MIN {
                inner.turn.note(count);
            }
        }
    }

    /// Moves what has come of a large body into a pipe; `None` where it has to be read: it is small,
    /// some of it was read before, or it comes over TLS.
    pub(crate) fn poll_splice(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Pipe, IncomingError>>> {
        let inner = &mut *self.inner.borrow_mut();
        if let Err(error) = self.poll_interim(inner, cx) {
            return Poll::Ready(Some(Err(error.into())));
        }
        let left = inner.body.left().unwrap_or(0);
        let bytes_max = usize::try_from(left).unwrap_or(usize::MAX);
        let is_worth_it = bytes_max >= BULK_BYTES_MIN && inner.buffer.bytes.is_empty();
        let Some(stream) = inner.stream.plain().filter(|_| is_worth_it) else {
            return Poll::Ready(None);
        };
        let Some(mut pipe) = self.worker.runtime.pipes.take() else {
            return Poll::Ready(None);
        };
        ready!(inner.turn.poll(cx));
        let count = match ready!(pipe.poll_fill(stream, bytes_max, cx)) {
            Ok(count) => count,
            Err(error) => return Poll::Ready(Some(Err(error.into()))),
        };
        self.activity.touch();
        inner.turn.note(count);
        if let Err(error) = inner.body.skip(count) {
            return Poll::Ready(Some(Err(error.into())));
        }
        inner.buffer.shrink();
        Poll::Ready(Some(Ok(pipe)))
    }

    /// Tells a client that waits for it to send the body.
    fn poll_interim(&self, inner: &mut Inner, cx: &mut Context<'_>) -> io::Result<()> {
        match inner.interim {
            Interim::None => return Ok(()),
            Interim::Expected => inner.interim = Interim::Due(CONTINUE),
            Interim::Due(_) => {}
        }
        // What the client does not take at once goes before the response.
        match self.poll_write_interim(inner, cx) {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => Ok(()),
        }
    }

    fn poll_write_interim(&self, inner: &mut Inner, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Interim::Due(bytes) = inner.interim {
            let poll = Pin::new(&mut inner.stream).poll_write(cx, bytes);
            self.activity.note_write(&poll);
            let left = &bytes[ready!(poll)?..];
            inner.interim = if left.is_empty() {
                Interim::None
            } else {
                Interim::Due(left)
            };
        }
        Pin::new(&mut inner.stream).poll_flush(cx)
    }

    /// Writes some of these bytes.
    pub(super) fn poll_write(
        &self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner.borrow_mut();
        match inner.interim {
            Interim::Due(_) => ready!(self.poll_write_interim(inner, cx))?,
            Interim::Expected => inner.interim = Interim::None,
            Interim::None => {}
        }
        let stream = Pin::new(&mut inner.stream);
        let poll = match slices {
            [slice] => stream.poll_write(cx, slice),
            slices => stream.poll_write_vectored(cx, slices),
        };
        self.activity.note_write(&poll);
        wrote_some(poll)
    }

    /// Writes some of these bytes, which a pipe follows.
    pub(super) fn poll_write_before_pipe(
        &self,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        {
            let inner = &mut *self.inner.borrow_mut();
            if let (Interim::None, Some(tcp)) = (&inner.interim, inner.stream.plain()) {
                let poll = poll_send_more(tcp, slices, cx);
                self.activity.note_write(&poll);
                return wrote_some(poll);
            }
        }
        self.poll_write(slices, cx)
    }

    /// Writes some of the bytes of a pipe. The connection must be one without TLS.
    pub(super) fn poll_drain(
        &self,
        pipe: &mut Pipe,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let inner = &mut *self.inner.borrow_mut();
        if let Interim::Due(_) = inner.interim {
            ready!(self.poll_write_interim(inner, cx))?;
        }
        let poll = pipe.poll_drain(inner.stream.tcp(), usize::MAX, cx);
        self.activity.note_write(&poll);
        wrote_some(poll)
    }

    /// A permit to hold large pieces of a response, if there is one; TLS may hold back more then.
    pub(super) fn take_bulk(&self) -> Option<BulkPermit> {
        let permit = self.worker.runtime.memory.bulk.take()?;
        self.inner.borrow_mut().stream.set_held(BULK_HELD_BYTES_MAX);
        Some(permit)
    }

    /// The permit goes back.
    pub(super) fn end_bulk(&self) {
        self.inner.borrow_mut().stream.set_held(TLS_HELD_BYTES_MAX);
    }

    /// Notes that the client takes nothing.
    pub(super) fn stall(&self, cx: &Context<'_>) -> Stall {
        let Runtime { memory, timers, .. } = &*self.worker.runtime;
        (memory.stalls).begin(STALLED_CONNECTION_BYTES, timers.now(), cx.waker())
    }

    /// Writes what TLS holds back.
    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner.borrow_mut().stream).poll_flush(cx)
    }

    /// Says that nothing more is written, where closing the socket does not say all of it: over TLS,
    /// `close_notify` (RFC 8446 §6.1) tells an end from a truncation.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if inner.stream.closes_silently() {
            return Poll::Ready(());
        }
        Pin::new(&mut inner.stream).poll_shutdown(cx).map(drop)
    }

    /// Ready when the client has closed the connection while its request is answered. What else it
    /// sends is kept; while something is, nothing is read.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let inner = &mut *self.inner.borrow_mut();
        if !inner.body.is_over() || !inner.buffer.bytes.is_empty() {
            return Poll::Pending;
        }
        let mut room = self.scratch();
        let mut read = ReadBuf::new(&mut room);
        let outcome = ready!(Pin::new(&mut inner.stream).poll_read(cx, &mut read));
        if outcome.is_err() || read.filled().is_empty() {
            return Poll::Ready(());
        }
        self.activity.touch();
        inner.buffer.bytes.extend_from_slice(read.filled());
        Poll::Pending
    }

    /// Ends a request. Returns whether another may follow: all of its body was read, or what is left
    /// of it is here.
    pub(super) fn end_request(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        while !inner.body.is_over() {
            match inner.body.decode(&mut inner.buffer.bytes) {
                Ok(Decoded::Nothing) | Err(_) => return false,
                Ok(Decoded::Data(_) | Decoded::Trailers(_) | Decoded::End) => {}
            }
        }
        if inner.buffer.bytes.is_empty() {
            inner.buffer.shrink();
            self.activity.begin_request(false);
        }
        true
    }

    /// Keeps no memory between two requests; returns false if a request has begun.
    pub(super) fn release_buffers(&self) -> bool {
        let inner = &mut *self.inner.borrow_mut();
        let is_between = inner.body.is_over() && inner.buffer.bytes.is_empty();
        if is_between {
            inner.buffer.release();
        }
        is_between
    }

    /// Whether bytes have come that nobody has used.
    pub(super) fn has_unread(&self) -> bool {
        !self.inner.borrow().buffer.bytes.is_empty()
    }

    /// The socket, and what was read from it and not used.
    pub(super) fn into_parts(self: Rc<Self>) -> Option<(ClientStream, Bytes)> {
        // The body of the last request has ended with its response.
        let inner = Rc::into_inner(self)?.inner.into_inner();
        Some((inner.stream, inner.buffer.bytes.freeze()))
    }
}

/// An error for a write that takes nothing.
fn wrote_some(poll: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
    match poll {
        Poll::Ready(Ok(0)) => Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
        Poll::Ready(_) | Poll::Pending => poll,
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes that are read where a request may begin: a head, and the beginning of a body.
const FRESH_BYTES_MAX: usize = 16 * 1024;
