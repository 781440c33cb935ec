//! The way of a large response body around our memory: from the endpoint's socket into a pipe, and
//! out of it into the client's.
//!
//! hyper writes what it is given from memory. What is in the pipe stands there as a
//! [`Chunk::Piped`] of so many bytes, whose memory means nothing. The socket underneath,
//! [`Monitored`](crate::proxy::runtime::monitored::Monitored), finds that memory in what it is to write, and takes as many
//! bytes out of the pipe in its place.
//!
//! Invariant: one connection's piped chunks are written in the order in which they were made, so
//! that one pipe is enough for them. hyper writes all bodies of an HTTP/1 connection in their order.

use std::cell::{Cell, RefCell};
use std::io::{self, IoSlice};
use std::iter;
use std::rc::Rc;
use std::sync::LazyLock;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::proxy::runtime::pipe::{Pipe, Pipes, poll_when_ready};

/// A part of a response body.
#[derive(Debug)]
pub(crate) enum Chunk {
    Bytes(Bytes),
    /// So many bytes in the pipe of the connection that they are written to.
    Piped(usize),
}

impl Buf for Chunk {
    #[inline]
    fn remaining(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Piped(length) => *length,
        }
    }

    #[inline]
    fn chunk(&self) -> &[u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Piped(length) => void(*length),
        }
    }

    #[inline]
    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.chunks_vectored(slices),
            Self::Piped(length) => {
                let mut left = *length;
                let parts = iter::from_fn(|| {
                    let part = void(left);
                    left -= part.len();
                    (!part.is_empty()).then_some(part)
                });
                let places = slices.iter_mut().zip(parts);
                places
                    .map(|(place, part)| *place = IoSlice::new(part))
                    .count()
            }
        }
    }

    #[inline]
    fn advance(&mut self, count: usize) {
        match self {
            Self::Bytes(bytes) => bytes.advance(count),
            Self::Piped(length) => *length -= count,
        }
    }
}

/// What stands for bytes that are in a pipe. On the heap, where nothing else has its address.
static VOID: LazyLock<Box<[u8]>> = LazyLock::new(|| vec![0; VOID_BYTES].into());

/// Small, so that it costs nothing; a chunk is many of it. hyper writes 64 slices at once.
const VOID_BYTES: usize = 16 * 1024;

fn void(length: usize) -> &'static [u8] {
    &VOID[..length.min(VOID_BYTES)]
}

fn is_void(slice: &IoSlice<'_>) -> bool {
    !slice.is_empty() && VOID.as_ptr_range().contains(&slice.as_ptr())
}

/// A connection's pipe, while there is something in it.
pub(crate) struct Conduit {
    pipes: Rc<Pipes>,
    pipe: RefCell<Option<Pipe>>,
    /// Who waits until it is empty.
    waiting: Cell<Option<Waker>>,
}

impl Conduit {
    pub(crate) fn new(pipes: &Rc<Pipes>) -> Self {
        Self {
            pipes: Rc::clone(pipes),
            pipe: RefCell::default(),
            waiting: Cell::default(),
        }
    }

    /// Whether there are bytes in it that the client has not taken.
    pub(crate) fn is_full(&self) -> bool {
        self.pipe.borrow().is_some()
    }

    /// Moves what has come from an endpoint into it, when it is empty and something has come; at
    /// most `bytes_max`. Zero is the end of the stream; `None`: there is no pipe to be had.
    pub(crate) fn poll_fill(
        &self,
        source: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<usize>>> {
        let mut place = self.pipe.borrow_mut();
        if place.is_some() {
            self.waiting.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        self.waiting.take();
        let Some(mut pipe) = self.pipes.take() else {
            return Poll::Ready(Ok(None));
        };
        let filled = ready!(pipe.poll_fill(source, bytes_max, cx))?;
        *place = (filled > 0).then_some(pipe);
        Poll::Ready(Ok(Some(filled)))
    }

    /// Writes what comes first in `slices`: what is in memory, or what is in the pipe. Returns how
    /// many bytes the client has taken.
    pub(crate) fn poll_write(
        &self,
        sink: &TcpStream,
        slices: &[IoSlice<'_>],
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let copied = slices.iter().take_while(|slice| !is_void(slice)).count();
        let (copied, rest) = slices.split_at(copied);
        if copied.iter().all(|slice| slice.is_empty()) {
            let piped = rest.iter().take_while(|slice| is_void(slice));
            return self.poll_drain(sink, piped.map(|slice| slice.len()).sum(), cx);
        }
        // What is in the pipe follows in the same packets.
        let mut flags = SendFlags::NOSIGNAL;
        flags.set(SendFlags::MORE, !rest.is_empty());
        let mut nothing = SendAncillaryBuffer::default();
        let send = || Ok(sendmsg(sink, copied, &mut nothing, flags)?);
        poll_when_ready(sink, Interest::WRITABLE, cx, send)
    }

    fn poll_drain(
        &self,
        sink: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let mut place = self.pipe.borrow_mut();
        let Some(pipe) = &mut *place else {
            return Poll::Ready(Ok(0));
        };
        let drained = ready!(pipe.poll_drain(sink, bytes_max, cx))?;
        if pipe.length() == 0 {
            *place = None;
            if let Some(waiting) = self.waiting.take() {
                waiting.wake();
            }
        }
        Poll::Ready(Ok(drained))
    }
}
