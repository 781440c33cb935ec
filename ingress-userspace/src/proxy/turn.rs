//! How much of what moves without an end is moved before others of the worker have their turn.
//!
//! A runtime looks for what has arrived when nothing is left to do. Where both ends of a large body
//! or a tunnel are quick there is always something, and all others wait for as long as it lasts.

use std::pin::pin;
use std::task::{Context, Poll};

use super::limits::BULK_TURN_BYTES_MAX;

/// Bytes that something has moved since others had their turn.
#[derive(Debug, Default)]
pub(super) struct Turn {
    moved: usize,
}

impl Turn {
    /// Notes that so many bytes have moved.
    pub(super) fn note(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Whether others are to have their turn.
    pub(super) fn is_over(&self) -> bool {
        self.moved >= BULK_TURN_BYTES_MAX
    }

    /// Pending once after so many bytes.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_over() {
            return Poll::Ready(());
        }
        self.moved = 0;
        let_others(cx);
        Poll::Pending
    }
}

/// Has the task polled again after all others that are to run, and those for which the kernel has
/// something by then. Waking it would have the kernel asked much later.
pub(super) fn let_others(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream as Sender;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Waker;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_turn_is_over_after_so_many_bytes() {
        let mut turn = Turn::default();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            turn.note(BULK_TURN_BYTES_MAX - 1);
            assert!(turn.poll(&mut cx).is_ready());
            turn.note(1);
            assert!(turn.poll(&mut cx).is_pending());
            assert!(turn.poll(&mut cx).is_ready());
        }
    }

    /// Who always has something to move lets one that waits for the kernel have its turn at once.
    #[test]
    fn the_kernel_is_asked_between_two_turns() {
        let runtime = Builder::new_current_thread().enable_io().build();
        let runtime = runtime.expect("a runtime");
        let (mut sender, receiver) = Sender::pair().expect("a pair");
        receiver.set_nonblocking(true).expect("it has no other");
        let turns = Arc::new(AtomicU32::new(0));
        let taken = Arc::clone(&turns);
        let mut turn = Turn::default();
        runtime.spawn(poll_fn(move |cx| {
            if taken.fetch_add(1, Ordering::Relaxed) == SENT_AT {
                sender.write_all(b"1").expect("there is room");
            }
            turn.note(BULK_TURN_BYTES_MAX);
            turn.poll(cx)
        }));
        let waits = runtime.spawn(async move {
            let mut receiver = UnixStream::from_std(receiver).expect("a runtime");
            receiver.read_u8().await.expect("a byte");
            turns.load(Ordering::Relaxed)
        });
        let seen_at = runtime.block_on(waits).expect("no panic");
        // Where it is only woken, the kernel is asked after some sixty.
        assert!(seen_at <= SENT_AT + 2, "seen after {seen_at} turns");
    }

    const SENT_AT: u32 = 5;
}
