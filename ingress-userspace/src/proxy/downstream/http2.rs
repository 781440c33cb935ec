//! HTTP/2 with clients (RFC 9113): the server's side of a connection.
//!
//! One task reads frames and writes what there is to be written; each stream has a task that
//! answers it (`respond.rs`). Both know the `session.rs`. Where nothing happens there are no
//! buffers, so that an idle connection costs little more than its socket: what is read goes into
//! the worker's scratch, and is kept only where a frame is not complete.
//!
//! Invariant: nothing that a client sends is kept without a bound. Bodies have their windows, field
//! blocks their size, streams their number, and while answers to its frames can't be written,
//! nothing is read.

mod blocks;
mod body;
mod data;
mod flush;
mod frames;
mod head;
mod reset_budget;
mod respond;
mod session;
mod stream;
mod tunnel;

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, Write};
use thiserror::Error;

pub(crate) use ingress_wire::http2::Reason;

use self::frames::Frames;
use self::session::SharedState;
use crate::proxy::downstream::driver::{ConnectionDriver, Next};
use crate::proxy::downstream::lingering_close;
use crate::proxy::request::connection::Connection;
use crate::proxy::runtime::fairness::let_others;
use crate::proxy::runtime::limits::{
    HTTP2_OUTPUT_BYTES_MAX, HTTP2_REQUESTS_MAX, TUNNEL_READ_BYTES_MAX, TURN_BYTES_MAX,
};
use crate::proxy::runtime::stream::OverTcp;
use ingress_wire::http2::FrameReader;

/// A connection to a client.
pub(crate) struct Http2<I> {
    io: I,
    input: FrameReader,
    frames: Frames,
    session: SessionGuard,
    is_over: bool,
    /// Whether the frames that were read last took more work than their bytes say.
    is_costly: bool,
}

/// Why a connection has ended.
#[derive(Debug, Error)]
pub(crate) enum ConnectionError {
    /// It broke.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The client does not keep to the protocol, or to bounds.
    #[error("client broke the protocol: {0}")]
    Client(Reason),
}

impl<I: Read + Write + Unpin> Http2<I> {
    /// Nothing of what the client has sent may have been read.
    pub(crate) fn new(io: I, connection: &Rc<Connection>) -> Self {
        let session = SharedState::new();
        Self {
            io,
            input: FrameReader::default(),
            frames: Frames::new(&session, connection),
            session: SessionGuard(session),
            is_over: false,
            is_costly: false,
        }
    }

    /// Reads until nothing is there, or enough was read.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let mut turn = 0;
        loop {
            if self.output_is_full() {
                ready!(self.poll_flush(cx))?;
            }
            if turn >= TURN_BYTES_MAX {
                let_others(cx);
                return Poll::Pending;
            }
            let (read, handled) = ready!(self.poll_some(cx))?;
            if let Err(reason) = handled {
                return Poll::Ready(Err(ConnectionError::Client(reason)));
            }
            if read == 0 {
                return Poll::Ready(Ok(()));
            }
            let work = self.frames.take_work();
            self.is_costly = work > TURN_BYTES_MAX;
            turn += read + work;
        }
    }

    /// Reads once, and handles what has come. 0 bytes: the client has closed its side.
    fn poll_some(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(usize, Result<(), Reason>)>> {
        let Self {
            io,
            input,
            frames,
            is_costly,
            ..
        } = self;
        // What is large is a body, each piece of which costs the same.
        let room = if *is_costly {
            COSTLY_READ_BYTES
        } else {
            (input.data_left() + FRAMES_BYTES).clamp(TURN_BYTES_MAX, TUNNEL_READ_BYTES_MAX)
        };
        let worker = Rc::clone(frames.worker());
        let mut scratch = worker.runtime.scratch.borrow_mut();
        if scratch.len() < TUNNEL_READ_BYTES_MAX {
            scratch.resize(TUNNEL_READ_BYTES_MAX, 0);
        }
        let mut buffer = ReadBuf::new(&mut scratch[..room]);
        ready!(Pin::new(io).poll_read(cx, buffer.unfilled()))?;
        let bytes = buffer.filled();
        let count = bytes.len();
        Poll::Ready(Ok((count, handle(input, frames, bytes))))
    }

    /// Whether there is no room for answers to frames, beside what streams may fill: who reads
    /// nothing of a response may go on to send.
    fn output_is_full(&self) -> bool {
        self.session.0.output.borrow().length() >= 2 * HTTP2_OUTPUT_BYTES_MAX
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut queue = self.session.0.output.borrow_mut();
        flush::poll_flush(&mut queue, &mut self.io, cx)
    }

    /// Ends all streams, and says what is still to be said. Who does not take that at once is not
    /// waited for.
    fn close(&mut self, cx: &mut Context<'_>) {
        self.session.0.end();
        if let Poll::Ready(Ok(())) = self.poll_flush(cx) {
            let _ = Pin::new(&mut self.io).poll_shutdown(cx);
        }
    }

    /// Goes on as far as it can.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        let read = self.poll_read(cx);
        if let Poll::Ready(outcome) = read {
            return Poll::Ready(outcome);
        }
        let flushed = self.poll_flush(cx);
        self.session.0.admit();
        match flushed {
            Poll::Ready(Ok(())) if self.frames.is_over() => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error.into())),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: Read + Write + Unpin> Future for Http2<I> {
    type Output = Result<(), ConnectionError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        this.session.0.poll_begins(cx);
        if this.is_over {
            return Poll::Ready(Ok(()));
        }
        let outcome = ready!(this.poll_open(cx));
        if let Err(ConnectionError::Client(reason)) = &outcome {
            this.frames.fail(*reason);
        }
        this.is_over = true;
        this.close(cx);
        Poll::Ready(outcome)
    }
}

impl<I> ConnectionDriver for Http2<I>
where
    I: Read + Write + OverTcp + Unpin + 'static,
{
    type Error = ConnectionError;

    const SAYS_GOODBYE: bool = true;

    const REQUESTS_MAX: u64 = HTTP2_REQUESTS_MAX;

    fn graceful_shutdown(&mut self) {
        if self.input.has_preface() {
            self.frames.send_goaway();
        } else {
            self.is_over = true;
        }
    }

    fn end_grace(&mut self) {
        self.frames.refuse_new_streams(Reason::NO_ERROR);
    }

    fn into_next<'a>(
        self,
        _: &Result<(), ConnectionError>,
        connection: &'a Rc<Connection>,
    ) -> Option<Next<'a>> {
        Some(Box::pin(lingering_close::close(
            self.io,
            &connection.worker.runtime,
        )))
    }
}

/// Applies the frames in `bytes`.
fn handle(input: &mut FrameReader, frames: &mut Frames, mut bytes: &[u8]) -> Result<(), Reason> {
    while let Some(piece) = input.next(&mut bytes)? {
        frames.handle(piece)?;
    }
    Ok(())
}

/// Ends all streams with their connection.
struct SessionGuard(Rc<SharedState>);

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Room for what stands between two pieces of a body.
const FRAMES_BYTES: usize = 256;

/// Bytes that are read at once after frames each of which concerned many streams.
const COSTLY_READ_BYTES: usize = 512;
