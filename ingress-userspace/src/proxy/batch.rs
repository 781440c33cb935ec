//! Small writes of an HTTP/2 connection, which leave together when its task has polled everything,
//! and a bound to what is read in one poll.
//!
//! h2 writes each DATA frame, with what stands before it, by a system call of its own. Responses of
//! many streams that are ready at the same time are one write here: what is small is copied, and
//! written after the poll, or as soon as there is much of it. What is large is never copied.
//!
//! h2 reads as long as there is something to read. A client that sends without end, and small
//! frames of which each costs something, would keep the worker from all others.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};

use super::limits::{BATCH_BYTES_MAX, TURN_BYTES_MAX};
use super::turn::let_others;

/// A connection whose small writes wait for [`Flushed`].
pub(super) struct Batched<T>(Rc<RefCell<Batch<T>>>);

/// Drives a future that writes to a [`Batched`], and lets leave what it has written.
pub(super) struct Flushed<F, T> {
    future: Pin<Box<F>>,
    batch: Rc<RefCell<Batch<T>>>,
}

struct Batch<T> {
    io: T,
    /// What waits; holds no memory while nothing does.
    waiting: Vec<u8>,
    /// How much of it has left.
    left: usize,
    /// Bytes that were read in this poll.
    read: usize,
    /// Why it could not leave, for the next read or write to tell.
    failure: Option<io::ErrorKind>,
}

impl<T: Read + Write + Unpin> Batched<T> {
    pub(super) fn new(io: T) -> Self {
        Self(Rc::new(RefCell::new(Batch {
            io,
            waiting: Vec::new(),
            left: 0,
            read: 0,
            failure: None,
        })))
    }

    /// `serve`'s future, which is the only one that may write to it.
    pub(super) fn serve<F: Future>(self, serve: impl FnOnce(Self) -> F) -> Flushed<F, T> {
        let batch = Rc::clone(&self.0);
        Flushed {
            future: Box::pin(serve(self)),
            batch,
        }
    }
}

impl<F, T> Flushed<F, T> {
    /// The connection, which its future has left.
    pub(super) fn into_inner(self) -> Option<T> {
        drop(self.future);
        let batch = Rc::try_unwrap(self.batch).ok()?;
        Some(batch.into_inner().io)
    }

    /// What writes.
    pub(super) fn future(&mut self) -> Pin<&mut F> {
        self.future.as_mut()
    }
}

impl<F: Future, T: Write + Unpin> Future for Flushed<F, T> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.batch.borrow_mut().read = 0;
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(output);
        }
        let flushed = self.batch.borrow_mut().poll_flush(cx);
        if matches!(flushed, Poll::Ready(Err(_))) {
            // It learns of the failure by reading.
            return self.future.as_mut().poll(cx);
        }
        Poll::Pending
    }
}

impl<T: Write + Unpin> Batch<T> {
    fn check(&self) -> io::Result<()> {
        self.failure.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        let length = buffers.iter().map(|buffer| buffer.len()).sum::<usize>();
        if length > COPIED_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.io).poll_write_vectored(cx, buffers);
        }
        if self.waiting.len() + length > BATCH_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
        }
        if self.waiting.capacity() == 0 {
            self.waiting.reserve_exact(BATCH_BYTES_MAX);
        }
        for buffer in buffers {
            self.waiting.extend_from_slice(buffer);
        }
        Poll::Ready(Ok(length))
    }

    /// Writes what waits.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.left < self.waiting.len() {
            let bytes = &self.waiting[self.left..];
            match ready!(Pin::new(&mut self.io).poll_write(cx, bytes)) {
                Ok(0) => return Poll::Ready(Err(self.fail(io::ErrorKind::WriteZero))),
                Ok(count) => self.left += count,
                Err(error) => return Poll::Ready(Err(self.fail(error.kind()))),
            }
        }
        self.waiting = Vec::new();
        self.left = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        ready!(self.poll_drain(cx))?;
        let flushed = ready!(Pin::new(&mut self.io).poll_flush(cx));
        Poll::Ready(flushed.map_err(|error| self.fail(error.kind())))
    }

    fn fail(&mut self, kind: io::ErrorKind) -> io::Error {
        self.failure = Some(kind);
        kind.into()
    }
}

impl<T: Read + Write + Unpin> Read for Batched<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut batch = self.0.borrow_mut();
        batch.check()?;
        if batch.read >= TURN_BYTES_MAX {
            let_others(cx);
            return Poll::Pending;
        }
        // SAFETY: `ReadBuf` never makes a byte uninitialized that was initialized.
        let mut read = ReadBuf::uninit(unsafe { buffer.as_mut() });
        ready!(Pin::new(&mut batch.io).poll_read(cx, read.unfilled()))?;
        let count = read.filled().len();
        // SAFETY: `read` is the same memory, of which so much was filled.
        unsafe { buffer.advance(count) };
        batch.read += count;
        Poll::Ready(Ok(()))
    }
}

impl<T: Write + Unpin> Write for Batched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().io.is_write_vectored()
    }

    /// h2 flushes after each frame; what waits leaves after the poll.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.0.borrow().check())
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut batch = self.0.borrow_mut();
        ready!(batch.poll_flush(cx))?;
        Pin::new(&mut batch.io).poll_shutdown(cx)
    }
}

/// Larger writes are worth a system call.
const COPIED_BYTES_MAX: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::*;

    /// Notes each write, takes so many bytes of one, and fails when it takes none.
    struct Wire {
        writes: Rc<RefCell<Vec<usize>>>,
        takes: usize,
    }

    impl Read for Wire {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl Write for Wire {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.takes == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            let count = bytes.len().min(self.takes);
            self.writes.borrow_mut().push(count);
            Poll::Ready(Ok(count))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The writes that become of frames of these sizes, all of one poll.
    fn writes(frames: &'static [usize], takes: usize) -> Vec<usize> {
        let writes = Rc::default();
        let wire = Wire {
            writes: Rc::clone(&writes),
            takes,
        };
        let mut served = Batched::new(wire).serve(|mut batched| {
            let mut frames = frames.iter();
            poll_fn(move |cx| {
                for frame in frames.by_ref() {
                    let written = Pin::new(&mut batched).poll_write(cx, &vec![0; *frame]);
                    assert!(matches!(written, Poll::Ready(Ok(_))));
                }
                Poll::<()>::Pending
            })
        });
        let mut cx = Context::from_waker(Waker::noop());
        assert!(Pin::new(&mut served).poll(&mut cx).is_pending());
        drop(served);
        writes.take()
    }

    #[test]
    fn small_writes_of_one_poll_leave_together() {
        assert_eq!(writes(&[9, 100, 1033, 58], usize::MAX), [1200]);
        assert_eq!(writes(&[], usize::MAX), [0; 0]);
    }

    #[test]
    fn a_large_write_follows_what_waits_and_is_not_copied() {
        assert_eq!(writes(&[100, 9000, 50], usize::MAX), [100, 9000, 50]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let frames = &[4000, 4000, 4000, 4000, 4000, 4000];
        assert_eq!(writes(frames, usize::MAX), [16_000, 8000]);
    }

    #[test]
    fn a_wire_that_takes_little_is_asked_again() {
        assert_eq!(writes(&[100, 100], 150), [150, 50]);
    }

    /// Always has so much to read.
    struct Spring(usize);

    impl Read for Spring {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            mut buffer: ReadBufCursor<'_>,
        ) -> Poll<io::Result<()>> {
            buffer.put_slice(&vec![7; self.0]);
            Poll::Ready(Ok(()))
        }
    }

    impl Write for Spring {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn who_sends_without_end_takes_turns_with_others() {
        for some in [1024, 1, 1000] {
            let mut served = Batched::new(Spring(some)).serve(|mut batched| {
                poll_fn(move |cx| {
                    let mut turn = 0;
                    let mut storage = [0; 1024];
                    let mut buffer = ReadBuf::new(&mut storage);
                    while turn < 2 * TURN_BYTES_MAX
                        && Pin::new(&mut batched)
                            .poll_read(cx, buffer.unfilled())
                            .is_ready()
                    {
                        assert_eq!(buffer.filled(), vec![7; some]);
                        turn += some;
                        buffer = ReadBuf::new(&mut storage);
                    }
                    Poll::Ready(turn)
                })
            });
            let mut cx = Context::from_waker(Waker::noop());
            for _ in 0..3 {
                let turn = Pin::new(&mut served).poll(&mut cx);
                assert_eq!(turn, Poll::Ready(TURN_BYTES_MAX.next_multiple_of(some)));
            }
        }
    }

    #[test]
    fn a_failure_is_told_by_the_next_read() {
        let wire = Wire {
            writes: Rc::default(),
            takes: 0,
        };
        let mut served = Batched::new(wire).serve(|mut batched| {
            let mut is_first = true;
            poll_fn(move |cx| {
                if std::mem::take(&mut is_first) {
                    let written = Pin::new(&mut batched).poll_write(cx, b"lost");
                    assert!(matches!(written, Poll::Ready(Ok(_))));
                    return Poll::Pending;
                }
                let mut storage = [0];
                let mut buffer = ReadBuf::new(&mut storage);
                let read = Pin::new(&mut batched).poll_read(cx, buffer.unfilled());
                read.map(|read| read.map_err(|error| error.kind()))
            })
        });
        let mut cx = Context::from_waker(Waker::noop());
        let outcome = Pin::new(&mut served).poll(&mut cx);
        assert_eq!(outcome, Poll::Ready(Err(io::ErrorKind::BrokenPipe)));
    }
}
