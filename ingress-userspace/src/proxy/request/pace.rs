//! Keeps a response body from going faster than its route allows.
//!
//! Source: nginx, directives `limit_rate` and `limit_rate_after`.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use ingress_core::ir::Bandwidth;
use tokio::time::Sleep;

/// How far a response body has come, and when more of it may follow.
pub(crate) struct Pace {
    bandwidth: Bandwidth,
    begun: Instant,
    bytes: u64,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    pub(crate) fn new(bandwidth: Bandwidth) -> Self {
        Self {
            bandwidth,
            begun: Instant::now(),
            bytes: 0,
            waiting: None,
        }
    }

    /// Ready when more may follow.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(waiting) = &mut self.waiting {
            ready!(waiting.as_mut().poll(cx));
            self.waiting = None;
        }
        Poll::Ready(())
    }

    /// Notes bytes that were handed over, and puts the next ones off if they came too soon.
    pub(crate) fn note(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        let due = due(self.bandwidth, self.bytes);
        let left = due.saturating_sub(self.begun.elapsed());
        if left > Duration::ZERO {
            self.waiting = Some(Box::pin(tokio::time::sleep(left)));
        }
    }
}

/// How long after the first byte so many may have gone.
fn due(bandwidth: Bandwidth, bytes: u64) -> Duration {
    let counted = bytes.saturating_sub(bandwidth.after);
    let rate = bandwidth.bytes_per_second.get();
    let millis = u128::from(counted) * 1000 / u128::from(rate);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    #[test]
    fn bytes_are_due_by_the_rate_after_the_first_ones() {
        let bandwidth = Bandwidth {
            bytes_per_second: NonZeroU64::new(1000).unwrap(),
            after: 500,
        };
        assert_eq!(due(bandwidth, 500), Duration::ZERO);
        assert_eq!(due(bandwidth, 1500), Duration::from_secs(1));
        assert!(due(bandwidth, u64::MAX) > Duration::from_secs(1 << 40));
    }
}
