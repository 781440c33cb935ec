//! The end of a worker: told once, seen by every task on it.

use std::cell::Cell;

use tokio::sync::Notify;

/// Whether the worker is to end.
#[derive(Default)]
pub(crate) struct Drain {
    begun: Cell<bool>,
    notify: Notify,
}

impl Drain {
    pub(crate) fn begin(&self) {
        self.begun.set(true);
        self.notify.notify_waiters();
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
