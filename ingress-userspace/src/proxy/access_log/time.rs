//! The time of day as text, made once a second.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The last second that was asked for, spelled out.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// One moment on both clocks; the second in time since 1970.
    read: Option<(Instant, Duration)>,
    second: Option<u64>,
    local: String,
    iso: String,
}

impl Clock {
    /// Brings the texts up to date with a moment just past; what is returned is the time since
    /// 1970. The time of day is read once a second, which is as late as it follows a change.
    pub(super) fn follow(&mut self, moment: Instant) -> Duration {
        let is_fresh = |(at, _): &(Instant, Duration)| moment < *at + READ_INTERVAL;
        let read = self.read.filter(is_fresh).unwrap_or_else(read);
        self.read = Some(read);
        let (at, time) = read;
        self.set(match moment.checked_duration_since(at) {
            Some(later) => time + later,
            None => time.saturating_sub(at.duration_since(moment)),
        })
    }

    fn set(&mut self, since: Duration) -> Duration {
        if self.second != Some(since.as_secs()) {
            self.second = Some(since.as_secs());
            let second = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
            let timestamp = Timestamp::from_second(second).unwrap_or_default();
            let zoned = timestamp.to_zoned(TimeZone::UTC);
            self.local = zoned.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
            self.iso = zoned.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        }
        since
    }

    /// As nginx's `$time_local`, in UTC.
    pub(super) fn local(&self) -> &str {
        &self.local
    }

    /// As nginx's `$time_iso8601`, in UTC.
    pub(super) fn iso(&self) -> &str {
        &self.iso
    }
}

/// This moment on both clocks.
fn read() -> (Instant, Duration) {
    let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    (Instant::now(), time.unwrap_or_default())
}

/// How long a reading of the time of day is good for.
const READ_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_nginx_spells_them() {
        let mut clock = Clock::default();
        let at = |seconds: u64| Duration::from_millis(seconds * 1000 + 7);
        assert_eq!(clock.set(at(951_827_696)).subsec_millis(), 7);
        assert_eq!(clock.local(), "29/Feb/2000:12:34:56 +0000");
        assert_eq!(clock.iso(), "2000-02-29T12:34:56+00:00");
        clock.set(at(951_827_697));
        assert_eq!(clock.local(), "29/Feb/2000:12:34:57 +0000");
    }

    #[test]
    fn moments_become_times_of_day() {
        let mut clock = Clock::default();
        let (now, time) = (Instant::now(), SystemTime::now());
        let first = clock.follow(now);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let apart = first.abs_diff(since);
        assert!(apart < PATIENCE, "{first:?} {since:?}");
        let later = clock.follow(now + READ_INTERVAL / 2);
        assert_eq!(later, first + READ_INTERVAL / 2);
        let read = clock.read;
        clock.follow(now + 2 * READ_INTERVAL);
        assert_ne!(clock.read, read, "read again");
    }

    const PATIENCE: Duration = Duration::from_secs(10);
}
