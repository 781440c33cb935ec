//! The time of day as text, made once a second.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The last second that was asked for, spelled out.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// One moment on both clocks.
    read: Option<(Instant, SystemTime)>,
    second: Option<u64>,
    local: String,
    iso: String,
}

impl Clock {
    /// Brings the texts up to date with a moment just past; what is returned is the time since
    /// 1970. The time of day is read once a second, which is as late as it follows a change.
    pub(super) fn follow(&mut self, now: Instant) -> Duration {
        let read = self
            .read
            .filter(|(at, _)| now.duration_since(*at) < READ_INTERVAL);
        let (at, time) = *self
            .read
            .insert(read.unwrap_or_else(|| (now, SystemTime::now())));
        self.set(time + now.duration_since(at))
    }

    fn set(&mut self, now: SystemTime) -> Duration {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let since = since.unwrap_or_default();
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

/// How long a reading of the time of day is good for.
const READ_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spelled_as_nginx_spells_them() {
        let mut clock = Clock::default();
        let at = |seconds: u64| SystemTime::UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
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
        assert!(
            first >= since && first < since + PATIENCE,
            "{first:?} {since:?}"
        );
        let later = clock.follow(now + READ_INTERVAL / 2);
        assert_eq!(later, first + READ_INTERVAL / 2);
        let read = clock.read;
        clock.follow(now + READ_INTERVAL);
        assert_ne!(clock.read, read, "read again");
    }

    const PATIENCE: Duration = Duration::from_secs(10);
}
