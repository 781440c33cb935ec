//! How many retries a backend may be asked for: a share of its requests, and a few more.
//!
//! Without one, retries multiply the load of a backend at the very moment that it cannot take any.

use std::time::{Duration, Instant};

/// What is left for retries.
#[derive(Clone, Copy, Debug)]
pub struct RetryBudget {
    /// In thousandths of a retry.
    left: u32,
    refilled: Instant,
}

impl RetryBudget {
    /// A budget that allows the retries of one second.
    pub fn new(now: Instant) -> Self {
        Self {
            left: RETRY * PER_SECOND,
            refilled: now,
        }
    }

    /// A request was made, which is not a retry.
    pub fn deposit(&mut self) {
        self.left = (self.left + RETRY * PERCENT_OF_REQUESTS / 100).min(LEFT_MAX);
    }

    /// Takes one retry out, if there is one.
    pub fn withdraw(&mut self, now: Instant) -> bool {
        let quiet = now.saturating_duration_since(self.refilled);
        self.refilled = now;
        let refill = quiet.min(REFILL_MAX).as_millis() * u128::from(RETRY * PER_SECOND) / 1000;
        let refill = u32::try_from(refill).unwrap_or(LEFT_MAX);
        self.left = self.left.saturating_add(refill).min(LEFT_MAX);
        let left = self.left.checked_sub(RETRY);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}

/// One retry.
const RETRY: u32 = 1000;

/// Retries that are allowed for each hundred requests.
const PERCENT_OF_REQUESTS: u32 = 20;

/// Retries that are allowed in each second, whatever the number of requests.
const PER_SECOND: u32 = 10;

/// What can be saved up: a hundred retries.
const LEFT_MAX: u32 = 100 * RETRY;

/// Time for which retries can be saved up.
const REFILL_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn withdrawals(budget: &mut RetryBudget, now: Instant) -> u32 {
        (0..1000).map(|_| u32::from(budget.withdraw(now))).sum()
    }

    #[test]
    fn a_fifth_of_the_requests_and_ten_a_second() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        assert_eq!(withdrawals(&mut budget, now), 10);
        for _ in 0..100 {
            budget.deposit();
        }
        assert_eq!(withdrawals(&mut budget, now), 20);
        let later = now + Duration::from_secs(2);
        assert_eq!(withdrawals(&mut budget, later), 20);
    }

    #[test]
    fn savings_are_bounded() {
        let now = Instant::now();
        let mut budget = RetryBudget::new(now);
        for _ in 0..100_000 {
            budget.deposit();
        }
        let later = now + Duration::from_hours(1);
        assert_eq!(withdrawals(&mut budget, later), 100);
    }
}
