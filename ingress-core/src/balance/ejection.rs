//! Leaving an endpoint alone that refuses connections or answers with errors: for longer each time,
//! and never for good.

use std::time::{Duration, Instant};

/// What recent connections and answers of an endpoint say about it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ejection {
    /// Connections in a row that failed.
    failures: u8,
    /// Answers in a row that were server errors.
    errors: u8,
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
        // The first failure after its return is enough.
        self.failures = FAILURES - 1;
        self.eject(now);
        true
    }

    /// A connection was made: that it can't be reached is over.
    pub fn succeed(&mut self) {
        self.failures = 0;
        self.forgive();
    }

    /// It has answered with a server error. Returns whether it is ejected by this.
    pub fn answer_error(&mut self, now: Instant) -> bool {
        self.errors = self.errors.saturating_add(1);
        if self.errors < ERRORS {
            return false;
        }
        self.errors = ERRORS - 1;
        self.eject(now);
        true
    }

    /// It has answered with anything else.
    pub fn answer_well(&mut self) {
        if self.errors > 0 {
            self.errors = 0;
            self.forgive();
        }
    }

    /// Whether other endpoints are to be preferred.
    pub fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn eject(&mut self, now: Instant) {
        let doublings = u32::from(self.ejections.min(DOUBLINGS_MAX));
        self.until = Some(now + FIRST * (1 << doublings));
        self.ejections = self.ejections.saturating_add(1);
    }

    /// Forgets ejections when nothing is held against it any more.
    fn forgive(&mut self) {
        if self.failures == 0 && self.errors < ERRORS - 1 {
            self.ejections = 0;
            self.until = None;
        }
    }
}

/// Failures in a row that eject: one may be chance.
const FAILURES: u8 = 2;

/// Server errors in a row that eject, as with Envoy: some may be the request's fault.
const ERRORS: u8 = 5;

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

    #[test]
    fn errors_in_a_row_eject_whatever_connections_do() {
        let now = Instant::now();
        let mut ejection = Ejection::default();
        for _ in 0..3 {
            for _ in 1..ERRORS {
                assert!(!ejection.answer_error(now));
            }
            ejection.answer_well();
        }
        for _ in 1..ERRORS {
            assert!(!ejection.answer_error(now));
        }
        assert!(ejection.answer_error(now));
        ejection.succeed();
        assert!(
            ejection.is_ejected(now),
            "that it can be reached is no news"
        );
        let back = now + FIRST;
        assert!(!ejection.is_ejected(back));
        assert!(ejection.answer_error(back), "one more is enough");
        assert!(ejection.is_ejected(back + FIRST), "for twice as long");
        ejection.answer_well();
        assert_eq!(ejection, Ejection::default());
    }
}
