//! The time of day as text, made once a second.

use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The last second that was asked for, spelled out.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    reading: Option<Reading>,
    local: String,
    iso: String,
}

/// One moment on both clocks, and for which moments the texts are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Reading {
    moment: Instant,
    /// Since 1970.
    time: Duration,
    from: Instant,
    until: Instant,
}

impl Clock {
    /// Brings the texts up to date with a moment just past. The time of day is read once a second,
    /// which is as late as it follows a change.
    #[inline]
    pub(crate) fn follow(&mut self, moment: Instant) {
        match &self.reading {
            Some(reading) if reading.from <= moment && moment < reading.until => {}
            reading => {
                let reading = reading.filter(|reading| moment < reading.moment + READ_INTERVAL);
                self.set(reading.unwrap_or_else(Reading::new), moment);
            }
        }
    }

    fn set(&mut self, reading: Reading, moment: Instant) {
        let time = reading.time_of(moment);
        let into_second = Duration::from_nanos(time.subsec_nanos().into());
        let next = moment + Duration::from_secs(1).saturating_sub(into_second);
        self.reading = Some(Reading {
            from: moment.checked_sub(into_second).unwrap_or(moment),
            until: next.min(reading.moment + READ_INTERVAL),
            ..reading
        });
        let second = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        let zoned = Timestamp::from_second(second)
            .unwrap_or_default()
            .to_zoned(TimeZone::UTC);
        self.local = zoned.strftime("%d/%b/%Y:%H:%M:%S +0000").to_string();
        self.iso = zoned.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
    }

    /// The time since 1970 of a moment, by the last reading.
    pub(crate) fn since_1970(&self, moment: Instant) -> Duration {
        let time = self.reading.map(|reading| reading.time_of(moment));
        time.unwrap_or_default()
    }

    /// As nginx's `$time_local`, in UTC.
    pub(crate) fn local(&self) -> &str {
        &self.local
    }

    /// As nginx's `$time_iso8601`, in UTC.
    pub(crate) fn iso(&self) -> &str {
        &self.iso
    }
}

impl Reading {
    /// This moment on both clocks.
    fn new() -> Self {
        let (moment, time) = (Instant::now(), SystemTime::now());
        let time = time.duration_since(SystemTime::UNIX_EPOCH);
        Self {
            moment,
            time: time.unwrap_or_default(),
            from: moment,
            until: moment,
        }
    }

    fn time_of(&self, moment: Instant) -> Duration {
        match moment.checked_duration_since(self.moment) {
            Some(later) => self.time + later,
            None => self.time.saturating_sub(self.moment.duration_since(moment)),
        }
    }
}

/// How long a reading of the time of day is good for.
const READ_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    /// A clock that was read at a moment, at so many milliseconds after 1970.
    fn clock(moment: Instant, milliseconds: u64) -> Clock {
        let time = Duration::from_millis(milliseconds);
        let reading = Reading {
            moment,
            time,
            from: moment,
            until: moment,
        };
        Clock {
            reading: Some(reading),
            ..Clock::default()
        }
    }

    #[test]
    fn times_are_spelled_as_nginx_spells_them() {
        let moment = Instant::now();
        let mut clock = clock(moment, 951_827_696_007);
        clock.follow(moment);
        assert_eq!(clock.local(), "29/Feb/2000:12:34:56 +0000");
        assert_eq!(clock.iso(), "2000-02-29T12:34:56+00:00");
    }

    #[test]
    fn a_second_has_its_own_moments() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut clock = clock(at(10_000), 951_827_696_400);
        for (milliseconds, second) in [
            (10_000, 56),
            (10_599, 56),
            (10_600, 57),
            (10_999, 57),
            // Before what was asked for last.
            (10_000, 56),
            (9_600, 56),
            (9_599, 55),
        ] {
            clock.follow(at(milliseconds));
            let expected = format!("29/Feb/2000:12:34:{second} +0000");
            assert_eq!(clock.local(), expected, "{milliseconds}");
        }
    }

    #[test]
    fn moments_become_times_of_day() {
        let mut clock = Clock::default();
        let (now, time) = (Instant::now(), SystemTime::now());
        clock.follow(now);
        let first = clock.since_1970(now);
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let apart = first.abs_diff(since);
        assert!(apart < PATIENCE, "{first:?} {since:?}");
        let later = now + READ_INTERVAL / 2;
        clock.follow(later);
        assert_eq!(clock.since_1970(later), first + READ_INTERVAL / 2);
        let read = clock.reading.map(|reading| reading.time);
        clock.follow(now + 2 * READ_INTERVAL);
        let read_again = clock.reading.map(|reading| reading.time);
        assert_ne!(read_again, read, "read again");
    }

    const PATIENCE: Duration = Duration::from_secs(10);
}
