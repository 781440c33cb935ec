//! Requests of one worker leave together, after all that had arrived was read.
//!
//! A request that is written to an endpoint wakes it. Where the endpoint, or anything else, shares
//! the worker's core, each such wake may take the core from the worker in the middle of what it
//! does: with everything on one core, a worker that writes each request as it reads it is
//! interrupted for half of its requests, and one that writes them after the others were read for a
//! fifth, which is 4 % of its time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Who waits to leave.
#[derive(Default)]
pub(crate) struct WriteBatch {
    waiting: RefCell<Vec<Waker>>,
    /// Of [`run`](Self::run).
    runner: Cell<Option<Waker>>,
}

impl WriteBatch {
    /// Waits until all tasks have run that can already.
    pub(crate) async fn wait(&self) {
        let mut has_waited = false;
        poll_fn(|cx| {
            if has_waited {
                return Poll::Ready(());
            }
            has_waited = true;
            self.join(cx)
        })
        .await;
    }

    fn join(&self, cx: &Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() {
            // The runner comes after all that are to run by now. Nobody waits where none is.
            let Some(runner) = self.runner.take() else {
                return Poll::Ready(());
            };
            runner.wake();
        }
        waiting.push(cx.waker().clone());
        Poll::Pending
    }

    /// Lets them go, as long as the worker runs.
    pub(crate) async fn run(&self) {
        loop {
            let count = poll_fn(|cx| self.poll_waiting(cx)).await;
            if count >= MANY {
                // Time enough to ask the kernel what has arrived meanwhile.
                tokio::task::yield_now().await;
            }
            for waiting in self.waiting.borrow_mut().drain(..) {
                waiting.wake();
            }
        }
    }

    /// How many wait, when somebody does.
    fn poll_waiting(&self, cx: &Context<'_>) -> Poll<usize> {
        let count = self.waiting.borrow().len();
        if count == 0 {
            self.runner.set(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(count)
    }
}

/// So many are a system call worth.
const MANY: usize = 8;

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::time::Duration;

    use tokio::runtime::{Builder, LocalOptions};

    use super::*;

    #[test]
    fn everybody_arrives_before_anybody_leaves() {
        let write_batch = Rc::new(WriteBatch::default());
        let seen = Rc::new(RefCell::new(String::new()));
        let journeys = async {
            let run = Rc::clone(&write_batch);
            tokio::task::spawn_local(async move { run.run().await });
            tokio::task::yield_now().await;
            for _ in 0..2 {
                let travel = |name: char| {
                    let (write_batch, seen) = (Rc::clone(&write_batch), Rc::clone(&seen));
                    tokio::task::spawn_local(async move {
                        seen.borrow_mut().push(name);
                        write_batch.wait().await;
                        seen.borrow_mut().push(name.to_ascii_uppercase());
                    })
                };
                for traveller in ['a', 'b', 'c'].map(travel) {
                    traveller.await.unwrap();
                }
            }
        };
        let runtime = Builder::new_current_thread()
            .enable_time()
            .build_local(LocalOptions::default());
        let journeys = async { tokio::time::timeout(PATIENCE, journeys).await };
        runtime.unwrap().block_on(journeys).unwrap();
        assert_eq!(&*seen.borrow(), "abcABCabcABC");
    }

    #[test]
    fn barrier_is_free_when_no_other_task_runs() {
        let runtime = Builder::new_current_thread().build_local(LocalOptions::default());
        runtime.unwrap().block_on(WriteBatch::default().wait());
    }

    const PATIENCE: Duration = Duration::from_secs(10);
}
