//! A timer that turns a burst of events into one.

use std::future;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

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
