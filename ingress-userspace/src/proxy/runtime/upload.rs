//! How far a request body has come: written by the body, read by timeouts and metrics.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;

use bytes::Bytes;
use http_body::Frame;

/// What has come of a request body.
pub(crate) struct Upload {
    progress: Cell<Progress>,
    bytes: Cell<u64>,
    bytes_max: u64,
}

impl Upload {
    /// A body of which nothing has come yet, and that may have this many bytes.
    pub(crate) fn new(bytes_max: u64) -> Rc<Self> {
        Rc::new(Self {
            progress: Cell::new(Progress::Streaming),
            bytes: Cell::new(0),
            bytes_max,
        })
    }

    /// Notes that the client broke off, or sent what is no body.
    pub(crate) fn fail(&self) {
        self.progress.set(Progress::Failed);
    }

    pub(crate) fn progress(&self) -> Progress {
        self.progress.get()
    }

    /// Whether all of it was read.
    pub(crate) fn is_done(&self) -> bool {
        self.progress() == Progress::Done
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    pub(crate) fn note<E>(&self, poll: &Poll<Option<Result<Frame<Bytes>, E>>>, is_end: bool) {
        match poll {
            Poll::Ready(Some(Err(_))) => self.fail(),
            Poll::Ready(None) => self.progress.set(Progress::Done),
            Poll::Ready(Some(Ok(frame))) => {
                self.note_bytes(frame.data_ref().map_or(0, Bytes::len), is_end);
            }
            Poll::Pending => {}
        }
    }

    pub(crate) fn note_bytes(&self, count: usize, is_end: bool) {
        self.bytes.set(self.bytes.get() + count as u64);
        if self.bytes.get() > self.bytes_max {
            self.progress.set(Progress::TooLarge);
        } else if is_end {
            self.progress.set(Progress::Done);
        }
    }
}

/// How far a request body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The client still has something to send.
    Streaming,
    /// All of it was read.
    Done,
    /// The client broke off, or sent what is no body.
    Failed,
    /// It has more bytes than it may have.
    TooLarge,
}
