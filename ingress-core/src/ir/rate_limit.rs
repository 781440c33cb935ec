//! How many requests and connections one client may have.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

/// Bounds for each client address, shared by all routes of one Ingress.
///
/// Source: ingress-nginx, annotations `limit-rps`, `limit-rpm`, `limit-connections`,
/// `limit-burst-multiplier` and `limit-allowlist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// Names the Ingress: clients are counted for each by itself.
    pub zone: Arc<str>,
    /// Requests a second and a minute.
    pub rates: Box<[Rate]>,
    /// Requests at a time; 0: any number.
    pub connections: u32,
    /// Clients that are not counted.
    pub exempt: Box<[IpNet]>,
    /// Status of the answer to too many requests.
    pub rate_status: u16,
    /// Status of the answer to too many requests at a time.
    pub connections_status: u16,
}

/// A rate with a burst above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests in the long run.
    pub interval: u64,
    /// Requests that may come at once beyond the one that the rate admits.
    pub burst: u32,
}

impl RateLimit {
    /// Whether a client is not counted.
    pub fn is_exempt(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        self.exempt.iter().any(|network| network.contains(&client))
    }
}

impl Rate {
    /// Admits a request at `now` or not, as nginx's leaky bucket does: `None` where it is too many,
    /// else the time at which the bucket is empty again. Times are in nanoseconds since any instant;
    /// `empty_at` is what the last admitted request gave, 0 for a client's first.
    ///
    /// Source: nginx, `ngx_http_limit_req_module`.
    pub fn admit(self, empty_at: u64, now: u64) -> Option<u64> {
        let next = empty_at.max(now) + self.interval;
        let room = self.interval.saturating_mul(u64::from(self.burst) + 1);
        (next - now <= room).then_some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_are_admitted_and_then_the_rate() {
        let rate = Rate {
            interval: 100,
            burst: 4,
        };
        let mut empty_at = 0;
        let mut admitted = Vec::new();
        for now in [
            1000, 1000, 1000, 1000, 1000, 1000, 1050, 1100, 1150, 1200, 9000,
        ] {
            let next = rate.admit(empty_at, now);
            admitted.push(next.is_some());
            empty_at = next.unwrap_or(empty_at);
        }
        let expected = [
            true, true, true, true, true, false, false, true, false, true, true,
        ];
        assert_eq!(admitted, expected);
    }
}
