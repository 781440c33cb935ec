//! Exemplars: for each bucket of request durations, the newest request whose trace is sampled. They lead
//! from a slow bucket to a trace.
//!
//! A request without a sampled trace costs one comparison. A worker never waits: while a scrape reads the
//! exemplars, a request leaves none.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use super::histogram::{Bounds, Seconds};

/// The newest exemplars of one series; nothing is held before the first.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(OnceLock<Box<Mutex<ByBucket>>>);

/// The newest exemplar of each bucket.
pub(crate) type ByBucket = [Option<Exemplar>; BUCKETS];

/// A request that stands for its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exemplar {
    pub(crate) trace: TraceNumber,
    /// Its duration, in microseconds.
    pub(crate) micros: u64,
    pub(crate) ended: SystemTime,
}

/// The id of a trace (W3C Trace Context §3.2.2.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TraceNumber(pub(crate) [u8; 16]);

impl Exemplars {
    /// Notes a request that has just ended. Only the owning worker's thread calls this.
    #[cold]
    pub(crate) fn note(&self, trace: TraceNumber, took: Duration) {
        self.put(Exemplar {
            trace,
            micros: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            ended: SystemTime::now(),
        });
    }

    fn put(&self, exemplar: Exemplar) {
        let cells = self.0.get_or_init(Box::default);
        if let Ok(mut cells) = cells.try_lock() {
            cells[Seconds::bucket(exemplar.micros)] = Some(exemplar);
        }
    }

    /// Takes over those that are newer.
    pub(crate) fn add_to(&self, all: &mut Option<Box<ByBucket>>) {
        let Some(cells) = self.0.get() else { return };
        let all = all.get_or_insert_default();
        let cells = *cells.lock().unwrap_or_else(PoisonError::into_inner);
        for (newest, one) in all.iter_mut().zip(cells) {
            let is_newer = |one: Exemplar| newest.is_none_or(|newest| newest.ended < one.ended);
            if let Some(one) = one.filter(|one| is_newer(*one)) {
                *newest = Some(one);
            }
        }
    }
}

impl fmt::Display for TraceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Exemplar {
    /// Writes it behind a sample of its bucket (OpenMetrics 1.0, "Exemplars").
    pub(crate) fn write(&self, out: &mut String) {
        let since_1970 = self.ended.duration_since(SystemTime::UNIX_EPOCH);
        let at = since_1970.unwrap_or_default().as_millis();
        let (seconds, millis) = (at / 1_000, at % 1_000);
        let (whole, micros) = (self.micros / 1_000_000, self.micros % 1_000_000);
        // Writing to a text does not fail.
        let _ = write!(
            out,
            " # {{trace_id=\"{}\"}} {whole}.{micros:06} {seconds}.{millis:03}",
            self.trace
        );
    }
}

/// One more than there are bounds.
const BUCKETS: usize = Seconds::UPPER.len() + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newest_request_of_each_bucket_stays() {
        let exemplar = |trace: u8, micros: u64, second: u64| Exemplar {
            trace: TraceNumber([trace; 16]),
            micros,
            ended: SystemTime::UNIX_EPOCH + Duration::from_secs(second),
        };
        let (one, other) = (Exemplars::default(), Exemplars::default());
        one.put(exemplar(1, 1, 1));
        one.put(exemplar(2, 1, 2));
        one.put(exemplar(3, 20_000_000, 3));
        other.put(exemplar(4, 1, 1));
        let mut all = None;
        for exemplars in [&one, &other, &Exemplars::default()] {
            exemplars.add_to(&mut all);
        }
        let all = all.unwrap();
        assert_eq!(all[0], Some(exemplar(2, 1, 2)));
        assert_eq!(all[BUCKETS - 1], Some(exemplar(3, 20_000_000, 3)));
        assert_eq!(all.iter().flatten().count(), 2);
        let mut text = String::new();
        exemplar(0xa, 1_500_000, 7).write(&mut text);
        let trace = "0a".repeat(16);
        assert_eq!(text, format!(" # {{trace_id=\"{trace}\"}} 1.500000 7.000"));
    }
}
