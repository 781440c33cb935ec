//! How many streams of a connection a client may have reset before it has to go.
//!
//! Every stream that ends by a reset which the client has provoked spends one credit: a reset that
//! it sent before the head of the response, and any protocol error of its own that made the server
//! reset a stream (CVE-2023-44487, CVE-2025-8671). Credits come back with time only, so that one
//! cheap response does not pay for the reset of an expensive request.
//!
//! Invariant: time is an argument; the budget keeps no clock.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// The budget of one connection.
pub(crate) struct ResetBudget {
    spent: Cell<u32>,
    refilled_at: Cell<Instant>,
}

/// What spending one credit came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    /// There was a credit.
    Granted,
    /// The budget is exhausted: open streams may finish, new ones are refused.
    Exhausted,
    /// The client went on as before after it had been told: the connection ends now.
    Overdrawn,
}

impl ResetBudget {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            spent: Cell::new(0),
            refilled_at: Cell::new(now),
        }
    }

    /// Spends one credit.
    pub(crate) fn spend(&self, now: Instant) -> Spent {
        self.refill(now);
        let spent = self.spent.get().saturating_add(1);
        self.spent.set(spent);
        if spent <= CREDITS_MAX {
            Spent::Granted
        } else if spent <= 2 * CREDITS_MAX {
            Spent::Exhausted
        } else {
            Spent::Overdrawn
        }
    }

    fn refill(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at.get());
        if elapsed >= REFILL_INTERVAL * 2 * CREDITS_MAX {
            self.spent.set(0);
            self.refilled_at.set(now);
            return;
        }
        while now.saturating_duration_since(self.refilled_at.get()) >= REFILL_INTERVAL {
            self.spent.set(self.spent.get().saturating_sub(1));
            // The part of an interval that has passed counts towards the next credit.
            self.refilled_at
                .set(self.refilled_at.get() + REFILL_INTERVAL);
        }
    }
}

/// Resets that a client may provoke at once. nginx closes a connection after some 700, Rust's h2
/// after 1,024.
pub(crate) const CREDITS_MAX: u32 = 512;

/// One credit comes back each 1/64 s.
const REFILL_INTERVAL: Duration = Duration::from_micros(15_625);

#[cfg(test)]
mod tests {
    use super::*;

    fn spend(budget: &ResetBudget, now: Instant, count: u32) -> Spent {
        let mut last = Spent::Granted;
        for _ in 0..count {
            last = budget.spend(now);
        }
        last
    }

    #[test]
    fn budget_is_exhausted_after_its_credits_and_then_overdrawn() {
        let now = Instant::now();
        let budget = ResetBudget::new(now);
        assert_eq!(spend(&budget, now, CREDITS_MAX), Spent::Granted);
        assert_eq!(budget.spend(now), Spent::Exhausted);
        assert_eq!(spend(&budget, now, CREDITS_MAX - 1), Spent::Exhausted);
        assert_eq!(budget.spend(now), Spent::Overdrawn);
    }

    #[test]
    fn credits_come_back_with_time() {
        let now = Instant::now();
        let budget = ResetBudget::new(now);
        spend(&budget, now, CREDITS_MAX);
        let later = now + Duration::from_secs(1);
        assert_eq!(spend(&budget, later, 64), Spent::Granted);
        assert_eq!(budget.spend(later), Spent::Exhausted);
        let much_later = now + Duration::from_hours(100_000);
        assert_eq!(spend(&budget, much_later, CREDITS_MAX), Spent::Granted);
        assert_eq!(budget.spend(much_later), Spent::Exhausted);
    }

    #[test]
    fn frequent_spending_does_not_stop_the_refill() {
        let mut now = Instant::now();
        let budget = ResetBudget::new(now);
        spend(&budget, now, CREDITS_MAX);
        // Three resets in four intervals, a quarter of an interval apart in time.
        for _ in 0..400 {
            now += REFILL_INTERVAL / 3 * 4;
            assert_eq!(budget.spend(now), Spent::Granted);
        }
    }
}
