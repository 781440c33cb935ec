//! The clock that processes of one machine share, for a moment that one of them tells another.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since the machine's boot, without what it slept (`CLOCK_MONOTONIC`).
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or_default();
    seconds * 1_000_000_000 + nanoseconds
}
