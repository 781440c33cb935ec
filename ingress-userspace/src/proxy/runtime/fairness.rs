//! How much of what moves without an end is moved before others of the worker have their turn.
//!
//! A runtime looks for what has arrived when nothing is left to do. Where both ends of a large body
//! or a tunnel are quick there is always something, and all others wait for as long as it lasts.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use crate::proxy::runtime::limits::{BULK_TURN_BYTES_MAX, COPIED_TURN_BYTES_MAX};

/// What something has moved since others had their turn.
#[derive(Debug, Default)]
pub(crate) struct FairnessBudget {
    moved: usize,
    /// That of the others, once it is theirs.
    pause: Option<Arc<Pause>>,
}

/// A yield in progress. If the task is polled again before other tasks have run (for example because
/// it woke itself), it stays pending.
#[derive(Debug)]
struct Pause {
    is_over: AtomicBool,
    waiting: Waker,
}

impl FairnessBudget {
    /// Notes that so many bytes were read, or moved by the kernel.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.moved = self.moved.saturating_add(bytes);
    }

    /// Notes that so many bytes went through our memory, perhaps with TLS on one side or on both.
    pub(crate) fn note_copied(&mut self, bytes: usize) {
        self.note(bytes.saturating_mul(BULK_TURN_BYTES_MAX / COPIED_TURN_BYTES_MAX));
    }

    /// Whether others are to have their turn.
    pub(crate) fn is_over(&self) -> bool {
        self.moved >= BULK_TURN_BYTES_MAX
    }

    /// Pending after so many bytes, until others have had their turn.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_over() {
            self.poll_pause(cx)
        } else {
            Poll::Ready(())
        }
    }

    #[cold]
    fn poll_pause(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(pause) = &self.pause {
            if pause.is_over.load(Ordering::Relaxed) {
                *self = Self::default();
                return Poll::Ready(());
            }
            if pause.waiting.will_wake(cx.waker()) {
                return Poll::Pending;
            }
        }
        let pause = Arc::new(Pause {
            is_over: AtomicBool::new(false),
            waiting: cx.waker().clone(),
        });
        self.pause = Some(Arc::clone(&pause));
        let_others(&mut Context::from_waker(&pause.into()));
        Poll::Pending
    }
}

impl Wake for Pause {
    fn wake(self: Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        self.waiting.wake_by_ref();
    }
}

/// Has the task polled again after all others that are to run, and those for which the kernel has
/// something by then. Waking it would have the kernel asked much later.
pub(crate) fn let_others(cx: &mut Context<'_>) {
    let _ = pin!(tokio::task::yield_now()).poll(cx);
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Write as _;
    use std::os::unix::net::UnixStream as Sender;
    use std::sync::atomic::AtomicU32;

    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;
    use tokio::runtime::Builder;

    use super::*;

    #[test]
    fn a_turn_is_over_after_so_many_bytes() {
        let mut turn = FairnessBudget::default();
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            turn.note(BULK_TURN_BYTES_MAX - 1);
            assert!(turn.poll(&mut cx).is_ready());
            turn.note(1);
            assert!(turn.poll(&mut cx).is_pending());
            // Without a runtime nobody waits for others.
            assert!(turn.poll(&mut cx).is_ready());
            turn.note_copied(COPIED_TURN_BYTES_MAX);
            assert!(turn.poll(&mut cx).is_pending());
            assert!(turn.poll(&mut cx).is_ready());
        }
    }

    /// Being polled for another reason does not begin the next turn.
    #[tokio::test]
    async fn a_pause_lasts_until_others_have_had_their_turn() {
        let mut turn = FairnessBudget::default();
        turn.note(BULK_TURN_BYTES_MAX);
        let mut polls = 0;
        poll_fn(|cx| {
            polls += 1;
            let poll = turn.poll(cx);
            assert!(poll.is_ready() || turn.poll(cx).is_pending());
            poll
        })
        .await;
        assert_eq!(polls, 2);
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
        let mut turn = FairnessBudget::default();
        runtime.spawn(async move {
            loop {
                if taken.fetch_add(1, Ordering::Relaxed) == SENT_AT {
                    sender.write_all(b"1").expect("there is room");
                }
                turn.note(BULK_TURN_BYTES_MAX);
                poll_fn(|cx| turn.poll(cx)).await;
            }
        });
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
