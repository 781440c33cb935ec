//! A socket that remembers when bytes last moved, and for how long the peer has taken none.
//!
//! All timeouts of bodies rest on this: they ask the socket, so that no body and no protocol
//! needs a timer for each of its frames.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::proxy::runtime::stream::{OverTcp, Stream};
use crate::proxy::runtime::timer::Timers;

/// What a [`Monitored`] socket notes down; shared with those who decide by it.
pub(crate) struct Activity {
    timers: Rc<Timers>,
    last: Cell<Instant>,
    last_write: Cell<Instant>,
    write_blocked_since: Cell<Option<Instant>>,
    is_amid_request: Cell<bool>,
}

impl Activity {
    pub(crate) fn new(timers: Rc<Timers>) -> Rc<Self> {
        let now = timers.now();
        Rc::new(Self {
            timers,
            last: Cell::new(now),
            last_write: Cell::new(now),
            write_blocked_since: Cell::new(None),
            is_amid_request: Cell::new(false),
        })
    }

    /// When a byte last went in either direction.
    pub(crate) fn last(&self) -> Instant {
        self.last.get()
    }

    /// When the peer last took a byte.
    pub(crate) fn last_write(&self) -> Instant {
        self.last_write.get()
    }

    /// Begins a new wait.
    pub(crate) fn touch(&self) {
        self.last.set(self.timers.now());
    }

    /// Since when the peer has taken no byte although there are some for it.
    pub(crate) fn write_blocked_since(&self) -> Option<Instant> {
        self.write_blocked_since.get()
    }

    /// Notes whether what was read ends within a request.
    pub(crate) fn begin_request(&self, is_amid_request: bool) {
        self.is_amid_request.set(is_amid_request);
    }

    /// Whether it does.
    pub(crate) fn is_amid_request(&self) -> bool {
        self.is_amid_request.get()
    }

    /// Notes what has come of a write.
    pub(crate) fn note_write(&self, poll: &Poll<io::Result<usize>>) {
        if poll.is_ready() {
            self.touch();
            self.last_write.set(self.last.get());
            self.write_blocked_since.set(None);
        } else if self.write_blocked_since.get().is_none() {
            self.write_blocked_since.set(Some(self.timers.now()));
        }
    }
}

/// A stream with its [`Activity`], in the shape that hyper reads and writes.
pub(crate) struct Monitored<S> {
    stream: TokioIo<S>,
    activity: Rc<Activity>,
}

impl<S: Stream> Monitored<S> {
    pub(crate) fn new(stream: S, activity: Rc<Activity>) -> Self {
        Self {
            stream: TokioIo::new(stream),
            activity,
        }
    }
}

impl<S: Stream> OverTcp for Monitored<S> {
    fn tcp(&self) -> &TcpStream {
        self.stream.inner().tcp()
    }
}

impl<S: Stream> Read for Monitored<S> {
    #[inline]
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if poll.is_ready() {
            self.activity.touch();
        }
        poll
    }
}

impl<S: Stream> Write for Monitored<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.activity.note_write(&poll);
        poll
    }

    #[inline]
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write_vectored(cx, buffers);
        self.activity.note_write(&poll);
        poll
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.inner().closes_silently() {
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// For a stream with a field `io` that only its reads have to do with.
macro_rules! write_through {
    ($wrapper:ident) => {
        impl<T: hyper::rt::Write + Unpin> hyper::rt::Write for $wrapper<T> {
            fn poll_write(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                bytes: &[u8],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut self.io).poll_write(cx, bytes)
            }

            fn poll_write_vectored(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
                buffers: &[std::io::IoSlice<'_>],
            ) -> std::task::Poll<std::io::Result<usize>> {
                std::pin::Pin::new(&mut self.io).poll_write_vectored(cx, buffers)
            }

            fn is_write_vectored(&self) -> bool {
                self.io.is_write_vectored()
            }

            fn poll_flush(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.io).poll_flush(cx)
            }

            fn poll_shutdown(
                mut self: std::pin::Pin<&mut Self>,
                cx: &mut std::task::Context<'_>,
            ) -> std::task::Poll<std::io::Result<()>> {
                std::pin::Pin::new(&mut self.io).poll_shutdown(cx)
            }
        }
    };
}

pub(crate) use write_through;
