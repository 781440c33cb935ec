//! Timers of the loop: one that turns a burst of events into one, and one for its end.

use std::future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::admin::Readiness;

/// Due once, a pause after the first event that was noted.
pub(super) struct Debounced {
    pause: Duration,
    due_at: Option<Instant>,
}

impl Debounced {
    pub(super) fn new(pause: Duration) -> Self {
        Self {
            pause,
            due_at: None,
        }
    }

    pub(super) fn note(&mut self) {
        self.due_at
            .get_or_insert_with(|| Instant::now() + self.pause);
    }

    /// Returns when it is due; may be dropped and called again without losing an event.
    pub(super) async fn due(&mut self) {
        match self.due_at {
            Some(at) => {
                sleep_until(at).await;
                self.due_at = None;
            }
            None => future::pending().await,
        }
    }
}

/// The end of the loop, a while after it was asked for.
pub(super) struct Ending {
    readiness: Readiness,
    due_at: Option<Instant>,
}

impl Ending {
    pub(super) fn new(readiness: Readiness) -> Self {
        Self {
            readiness,
            due_at: None,
        }
    }

    /// Tells clients to go elsewhere and ends after `delay`; at once if asked again.
    pub(super) fn ask(&mut self, delay: Duration) {
        let delay = self.due_at.map_or(delay, |_| Duration::ZERO);
        self.readiness.drain();
        info!(delay_seconds = delay.as_secs(), "told to end");
        self.due_at = Some(Instant::now() + delay);
    }

    /// Returns when the end is due.
    pub(super) async fn due(&self) {
        match self.due_at {
            Some(at) => sleep_until(at).await,
            None => future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_due_once() {
        let mut debounced = Debounced::new(Duration::from_millis(20));
        let start = Instant::now();
        for _ in 0..3 {
            debounced.note();
        }
        debounced.due().await;
        assert_eq!(start.elapsed(), Duration::from_millis(20));
        let again = tokio::time::timeout(Duration::from_secs(1), debounced.due()).await;
        assert!(again.is_err(), "nothing is due without an event");
    }
}
