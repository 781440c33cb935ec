//! Leaving an endpoint alone that refuses connections: for longer each time, and never for good.

use std::time::{Duration, Instant};

/// What recent connections to an endpoint say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row.
    failures: u8,
    /// How often it was ejected since it last worked.
    ejections: u8,
    until: Option<Instant>,
}

impl Ejection {
    /// A connection has failed. Returns whether the endpoint is ejected by this.
    pub fn fail(&mut self, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return false;
        }
        let doublings = u32::from(self.ejections.min(DOUBLINGS_MAX));
        self.until = Some(now + FIRST * (1 << doublings));
        self.ejections = self.ejections.saturating_add(1);
        // The first failure after its return is enough.
        self.failures = FAILURES - 1;
        true
    }

    /// A connection was made: whatever was wrong is over.
    pub fn succeed(&mut self) {
        *self = Self::default();
    }

    /// Whether other endpoints are to be preferred.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }
}

/// Failures in a row that eject: one may be chance.
const FAILURES: u8 = 2;

/// How long the first ejection lasts; each one that follows lasts twice as long as the last.
const FIRST: Duration = Duration::from_secs(1);

/// 64 seconds at most.
const DOUBLINGS_MAX: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_double_up_to_a_bound_and_end_with_a_success() {
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        assert!(!ejection.fail(now));
        assert!(!ejection.is_ejected(now));
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64, 64] {
            assert!(ejection.fail(now));
            now += Duration::from_millis(seconds * 1000 - 1);
            assert!(ejection.is_ejected(now), "{seconds}");
            now += Duration::from_millis(1);
            assert!(!ejection.is_ejected(now), "{seconds}");
        }
        ejection.succeed();
        assert_eq!(ejection, Ejection::default());
    }
}
