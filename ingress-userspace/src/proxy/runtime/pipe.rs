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

use crate::proxy::runtime::counters::Counters;
use crate::proxy::runtime::limits::{PIPE_BYTES, PIPES_KEPT, PIPES_MAX};

/// The pipes of a worker.
#[derive(Debug)]
pub(crate) struct Pipes {
    idle: RefCell<Vec<Rc<Ends>>>,
    /// All that there are, idle or not.
    open: Cell<usize>,
    counters: Arc<Counters>,
}

/// A pipe that somebody uses. It goes back to the worker when it is dropped, if it is empty.
#[derive(Debug)]
pub(crate) struct Pipe {
    ends: Rc<Ends>,
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
    pub(crate) fn new(counters: &Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            idle: RefCell::default(),
            open: Cell::new(0),
            counters: Arc::clone(counters),
        })
    }

    /// An empty pipe. `None` where there are too many, or the system gives no more: its user copies
    /// then.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Pipe> {
        let ends = self.idle.borrow_mut().pop().or_else(|| self.make())?;
        Some(Pipe {
            ends,
            length: 0,
            pipes: Rc::clone(self),
        })
    }

    fn make(&self) -> Option<Rc<Ends>> {
        if self.open.get() >= PIPES_MAX {
            return None;
        }
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // Users without privileges may have so many pages in pipes (pipe(7)), and one of a page
        // would be worse than copying.
        let room = fcntl_setpipe_size(&write, PIPE_BYTES).ok()?;
        self.open.set(self.open.get() + 1);
        Some(Rc::new(Ends { read, write, room }))
    }

    fn give_back(&self, ends: &Rc<Ends>, is_empty: bool) {
        let mut idle = self.idle.borrow_mut();
        if is_empty && idle.len() < PIPES_KEPT {
            idle.push(Rc::clone(ends));
        } else {
            self.open.set(self.open.get() - 1);
        }
    }
}

impl Pipe {
    /// Bytes in it.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    /// Moves bytes from a socket into it, when there are some; at most `bytes_max`. It must be
    /// empty. Zero is the end of the stream.
    pub(crate) fn poll_fill(
        &mut self,
        source: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        debug_assert_eq!(self.length, 0, "a pipe is filled when it is empty");
        let Ends { write, room, .. } = &*self.ends;
        let bytes_max = bytes_max.min(*room);
        let fill = || Ok(splice(source, None, write, None, bytes_max, FLAGS)?);
        let filled = ready!(poll_when_ready(source, Interest::READABLE, cx, fill))?;
        self.length = filled;
        self.pipes.counters.spliced_bytes.add(filled as u64);
        Poll::Ready(Ok(filled))
    }

    /// Moves bytes out of it into a socket that takes some; at most `bytes_max`. There must be some.
    pub(crate) fn poll_drain(
        &mut self,
        sink: &TcpStream,
        bytes_max: usize,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let read = &self.ends.read;
        let bytes_max = bytes_max.min(self.length);
        let drain = || Ok(splice(read, None, sink, None, bytes_max, FLAGS)?);
        let drained = ready!(poll_when_ready(sink, Interest::WRITABLE, cx, drain))?;
        self.length -= drained;
        Poll::Ready(Ok(drained))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.pipes.give_back(&self.ends, self.length == 0);
    }
}

/// Does something with a socket when it is ready for it, again where it was not after all or a
/// signal came.
pub(crate) fn poll_when_ready(
    socket: &TcpStream,
    interest: Interest,
    cx: &mut Context<'_>,
    mut action: impl FnMut() -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        let is_ready = if interest.is_readable() {
            socket.poll_read_ready(cx)
        } else {
            socket.poll_write_ready(cx)
        };
        ready!(is_ready)?;
        let outcome = socket.try_io(interest, &mut action);
        let kind = outcome.as_ref().err().map(io::Error::kind);
        match kind {
            Some(io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Some(_) | None => return Poll::Ready(outcome),
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);
