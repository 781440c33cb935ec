//! Bytes that go from one socket to another through a pipe of the kernel (`splice(2)`): the pages
//! that they came in change hands, and nobody copies them.
//!
//! Invariant: a pipe is filled only when it is empty. So a fill that finds nothing says that the
//! source has nothing, and not that the pipe is full; the kernel has one error for both.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::counters::Counters;
use super::limits::{PIPE_BYTES, PIPES_KEPT, PIPES_MAX};

/// The pipes of a worker.
#[derive(Debug)]
pub(super) struct Pipes {
    idle: RefCell<Vec<Ends>>,
    /// All that there are, idle or not.
    open: Cell<usize>,
    counters: Arc<Counters>,
}

/// A pipe that somebody uses. It goes back to the worker when it is dropped, if it is empty.
#[derive(Debug)]
pub(super) struct Pipe {
    /// `None` only while it is dropped.
    ends: Option<Ends>,
    /// Bytes in it.
    length: usize,
    pipes: Rc<Pipes>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    /// Bytes that it has room for; less, where they come in small packets.
    room: usize,
}

impl Pipes {
    pub(super) fn new(counters: &Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            open: Cell::new(0),
            counters: Arc::clone(counters),
        })
    }

    /// An empty pipe. `None` where there are too many, or the system gives no more: its user copies
    /// then.
    pub(super) fn take(self: &Rc<Self>) -> Option<Pipe> {
        let ends = self.idle.borrow_mut().pop().or_else(|| self.make())?;
        Some(Pipe {
            ends: Some(ends),
            length: 0,
            pipes: Rc::clone(self),
        })
    }

    fn make(&self) -> Option<Ends> {
        if self.open.get() >= PIPES_MAX {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Users without privileges may have so many pages in pipes (pipe(7)), and one of a page
        // would be worse than copying.
        let room = fcntl_setpipe_size(&write, PIPE_BYTES).ok()?;
        self.open.set(self.open.get() + 1);
        Some(Ends { read, write, room })
    }

    fn give_back(&self, ends: Ends, is_empty: bool) {
        let mut idle = self.idle.borrow_mut();
        if is_empty && idle.len() < PIPES_KEPT {
            idle.push(ends);
        } else {
            self.open.set(self.open.get() - 1);
        }
    }
}

impl Pipe {
    /// Bytes in it.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Moves bytes from a socket into it, when there are some; at most `bytes_max`. It must be
    /// empty. Zero is the end of the stream.
    pub(super) fn poll_fill(
        &mut self,
        source: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.length, 0, "a pipe is filled when it is empty");
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        let bytes_max = bytes_max.min(ends.room);
        let fill = || Ok(splice(source, None, &ends.write, None, bytes_max, FLAGS)?);
        let filled = loop {
            ready!(source.poll_read_ready(cx))?;
            let filled = source.try_io(Interest::READABLE, fill);
            if !is_to_repeat(&filled) {
                break filled?;
            }
        };
        self.length = filled;
        self.pipes.counters.spliced_bytes.add(filled as u64);
        Poll::Ready(Ok(filled))
    }

    /// Moves bytes out of it into a socket that takes some; at most `bytes_max`. There must be some.
    pub(super) fn poll_drain(
        &mut self,
        sink: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let Some(ends) = &self.ends else {
            return Poll::Ready(Ok(0));
        };
        let bytes_max = bytes_max.min(self.length);
        let drain = || Ok(splice(&ends.read, None, sink, None, bytes_max, FLAGS)?);
        let drained = loop {
            ready!(sink.poll_write_ready(cx))?;
            let drained = sink.try_io(Interest::WRITABLE, drain);
            if !is_to_repeat(&drained) {
                break drained?;
            }
        };
        self.length -= drained;
        Poll::Ready(Ok(drained))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        if let Some(ends) = self.ends.take() {
            self.pipes.give_back(ends, self.length == 0);
        }
    }
}

/// Whether the socket was not ready after all, or a signal came.
fn is_to_repeat(outcome: &io::Result<usize>) -> bool {
    let kind = outcome.as_ref().err().map(io::Error::kind);
    matches!(
        kind,
        Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
    )
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
