//! The end of a worker: told once, seen by every task on it.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Notify;

/// Whether the worker is to end.
#[derive(Default)]
pub(crate) struct Drain {
    begun: Cell<bool>,
    idle_grace: Cell<Duration>,
    notify: Notify,
}

impl Drain {
    /// Tells every task of the worker that it ends within `grace`.
    pub(crate) fn begin(&self, grace: Duration) {
        self.idle_grace.set((grace / 2).min(IDLE_GRACE_MAX));
        self.begun.set(true);
        self.notify.notify_waiters();
    }

    /// The longest time for which an idle connection over HTTP/1.1 stays open, so that the client's next
    /// request is answered and tells it to leave: a request that crosses the end of its connection is lost.
    pub(crate) fn idle_grace(&self) -> Duration {
        self.idle_grace.get()
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.get()
    }

    /// Waits until it has.
    pub(crate) async fn begun(&self) {
        let notified = self.notify.notified();
        if !self.has_begun() {
            notified.await;
        }
    }
}

/// Most clients that are not away send a request in this time.
const IDLE_GRACE_MAX: Duration = Duration::from_secs(10);
