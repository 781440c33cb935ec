//! Log lines about endpoints that fail requests: at the default level, and no more than a few a
//! second, because a backend that is down fails every request.

use std::cell::Cell;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tracing::warn;

/// What one worker has logged lately.
#[derive(Default)]
pub(crate) struct UpstreamErrorLog {
    /// When the first line of this second was logged.
    second: Cell<Option<Instant>>,
    lines: Cell<u32>,
    suppressed: Cell<u64>,
}

/// The request that an endpoint has failed.
pub(crate) struct FailedRequest<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) host: &'a str,
    pub(crate) backend: &'a str,
    /// The endpoint that was tried last, if one was.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl UpstreamErrorLog {
    /// Logs why a request has failed, unless as many lines as may be were logged this second.
    pub(crate) fn log(
        &self,
        now: Instant,
        error: &(dyn Error + 'static),
        request: &FailedRequest<'_>,
    ) {
        let Some(suppressed) = self.admit(now) else {
            return;
        };
        let endpoint = request.endpoint.map(tracing::field::display);
        warn!(
            request_id = request.request_id,
            host = request.host,
            backend = request.backend,
            endpoint,
            error,
            suppressed,
            "endpoint failed a request"
        );
    }

    /// How many lines were left out before this one; `None` if this one is left out too.
    fn admit(&self, now: Instant) -> Option<u64> {
        let is_same_second = self
            .second
            .get()
            .is_some_and(|second| now.saturating_duration_since(second) < Duration::from_secs(1));
        if !is_same_second {
            self.second.set(Some(now));
            self.lines.set(0);
        }
        if self.lines.get() == LINES_PER_SECOND_MAX {
            self.suppressed.set(self.suppressed.get() + 1);
            return None;
        }
        self.lines.set(self.lines.get() + 1);
        Some(self.suppressed.take())
    }
}

/// Lines that one worker logs in a second.
const LINES_PER_SECOND_MAX: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_beyond_the_rate_are_counted_in_the_next_one() {
        let now = Instant::now();
        let log = UpstreamErrorLog::default();
        for _ in 0..LINES_PER_SECOND_MAX {
            assert_eq!(log.admit(now), Some(0));
        }
        for _ in 0..3 {
            assert_eq!(log.admit(now), None);
        }
        let later = now + Duration::from_secs(1);
        assert_eq!(log.admit(later), Some(3));
        assert_eq!(log.admit(later), Some(0));
    }
}
