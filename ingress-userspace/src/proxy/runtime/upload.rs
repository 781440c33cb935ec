//! How far a request body has come: written by the body, read by timeouts and metrics.

use std::cell::Cell;
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Frame;

use crate::proxy::runtime::timer::Timers;

/// The progress of a request body.
pub(crate) struct Upload {
    progress: Cell<Progress>,
    bytes: Cell<u64>,
    bytes_max: u64,
    /// Of one that has to come at a pace.
    pace: Option<Pace>,
}

/// How fast a body has to come.
pub(crate) struct Pace {
    timers: Rc<Timers>,
    begun: Instant,
    bytes_per_second: u32,
}

impl Pace {
    /// Of a body that begins now; `None` for 0.
    pub(crate) fn new(timers: &Rc<Timers>, bytes_per_second: u32) -> Option<Self> {
        (bytes_per_second > 0).then(|| Self {
            timers: Rc::clone(timers),
            begun: timers.now(),
            bytes_per_second,
        })
    }

    fn is_too_slow(&self, bytes: u64) -> bool {
        let took = self.timers.now().saturating_duration_since(self.begun);
        let counted = took.saturating_sub(PACE_GRACE).as_secs();
        bytes < counted.saturating_mul(self.bytes_per_second.into())
    }
}

/// In which a body need not have begun: a client may have connected over a slow network.
const PACE_GRACE: Duration = Duration::from_secs(5);

impl Upload {
    /// A body of which nothing has come yet, and that may have this many bytes.
    pub(crate) fn new(bytes_max: u64, pace: Option<Pace>) -> Rc<Self> {
        Rc::new(Self {
            progress: Cell::new(Progress::Streaming),
            bytes: Cell::new(0),
            bytes_max,
            pace,
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
        } else if let Some(pace) = &self.pace
            && pace.is_too_slow(self.bytes.get())
        {
            self.progress.set(Progress::TooSlow);
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
    /// Fewer bytes a second have come than have to.
    TooSlow,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_comes_too_slowly_fails_after_its_first_seconds() {
        let timers = Timers::new();
        assert!(Pace::new(&timers, 0).is_none());
        let progress = |seconds, bytes| {
            let pace = Pace::new(&timers, 100).map(|pace| Pace {
                begun: pace
                    .begun
                    .checked_sub(Duration::from_secs(seconds))
                    .unwrap(),
                ..pace
            });
            let upload = Upload::new(u64::MAX, pace);
            upload.note_bytes(bytes, false);
            upload.progress()
        };
        assert_eq!(progress(5, 1), Progress::Streaming);
        assert_eq!(progress(15, 1000), Progress::Streaming);
        assert_eq!(progress(15, 999), Progress::TooSlow);
    }
}
