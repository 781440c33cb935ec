//! A connection that says when something was read from it.
//!
//! hyper reads an HTTP/2 connection in a task of its own, and tells nobody what it has learned from
//! the peer's settings. Whoever waits for those is woken from here.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hyper::rt::{Read, ReadBufCursor};

use crate::proxy::runtime::monitored::write_through;

/// Who is to be woken by the next read.
#[derive(Clone, Default)]
pub(crate) struct SettingsNotify(Rc<Cell<Option<Waker>>>);

impl SettingsNotify {
    pub(crate) fn wake(&self, waker: &Waker) {
        self.0.set(Some(waker.clone()));
    }
}

/// A connection with an [`SettingsNotify`].
pub(crate) struct ReadNotify<T> {
    io: T,
    announcement: SettingsNotify,
}

impl<T> ReadNotify<T> {
    pub(crate) fn new(io: T, announcement: SettingsNotify) -> Self {
        Self { io, announcement }
    }
}

impl<T: Read + Unpin> Read for ReadNotify<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.io).poll_read(cx, buffer);
        if poll.is_ready()
            && let Some(waker) = self.announcement.0.take()
        {
            // Only queues its task, which runs when what was read has been understood.
            waker.wake();
        }
        poll
    }
}

write_through!(ReadNotify);
