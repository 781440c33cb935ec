//! Bounds for each client, by ingress-nginx's names: `limit-rps`, `limit-rpm`,
//! `limit-connections`, `limit-burst-multiplier`, `limit-allowlist`, `limit-rate`,
//! `limit-rate-after`.

use std::num::NonZeroU64;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Settings, access};
use crate::ir::{Bandwidth, Rate, RateLimit};

/// The settings for rate limits, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RateLimitSettings {
    per_second: u32,
    per_minute: u32,
    burst_multiplier: u32,
    connections: u32,
    exempt: Box<[IpNet]>,
    rate_status: u16,
    connections_status: u16,
    /// KiB a second of a response, and KiB before that counts.
    bandwidth: u64,
    bandwidth_after: u64,
}

impl Default for RateLimitSettings {
    fn default() -> Self {
        Self {
            per_second: 0,
            per_minute: 0,
            burst_multiplier: 5,
            connections: 0,
            exempt: Box::default(),
            rate_status: 503,
            connections_status: 503,
            bandwidth: 0,
            bandwidth_after: 0,
        }
    }
}

impl RateLimitSettings {
    /// The bounds of an Ingress, if there are any.
    pub(super) fn limit(&self, zone: &str) -> Option<Arc<RateLimit>> {
        let rate = |count: u32, nanoseconds: u64| {
            (count > 0).then(|| Rate {
                interval: nanoseconds / u64::from(count),
                burst: count.saturating_mul(self.burst_multiplier),
            })
        };
        let rates = [
            rate(self.per_second, NANOSECONDS),
            rate(self.per_minute, 60 * NANOSECONDS),
        ];
        let rates: Box<[Rate]> = rates.into_iter().flatten().collect();
        if rates.is_empty() && self.connections == 0 {
            return None;
        }
        Some(Arc::new(RateLimit {
            zone: zone.into(),
            rates,
            connections: self.connections,
            exempt: self.exempt.clone(),
            rate_status: self.rate_status,
            connections_status: self.connections_status,
        }))
    }

    /// How fast a response may be, if that is bounded.
    pub(super) fn bandwidth(&self) -> Option<Bandwidth> {
        let bytes_per_second = NonZeroU64::new(self.bandwidth.saturating_mul(1024))?;
        Some(Bandwidth {
            bytes_per_second,
            after: self.bandwidth_after.saturating_mul(1024),
        })
    }
}

/// Source: ingress-nginx, annotation `limit-rps`.
pub(super) fn per_second(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.per_second = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-rpm`.
pub(super) fn per_minute(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.per_minute = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-burst-multiplier`; less than 1 counts as the default.
pub(super) fn burst_multiplier(value: &str, settings: &mut Settings) -> Result<(), String> {
    let multiplier: u32 = number(value)?;
    settings.rate_limit.burst_multiplier = if multiplier == 0 { 5 } else { multiplier };
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-connections`.
pub(super) fn connections(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.connections = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-allowlist`.
pub(super) fn allowlist(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.exempt = if value.trim().is_empty() {
        Box::default()
    } else {
        access::networks(value)?
    };
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-rate`: KiB a second.
pub(super) fn bandwidth(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.bandwidth = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `limit-rate-after`: KiB.
pub(super) fn bandwidth_after(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.bandwidth_after = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `limit-req-status-code`.
pub(super) fn rate_status(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.rate_status = status(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `limit-conn-status-code`.
pub(super) fn connections_status(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.rate_limit.connections_status = status(value)?;
    Ok(())
}

fn status(value: &str) -> Result<u16, String> {
    let status = value.trim().parse().ok();
    let status = status.filter(|status| (400..600).contains(status));
    status.ok_or_else(|| format!("`{value}` is not a status from 400 to 599; ignored"))
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    let number = value.trim().parse();
    number.map_err(|_| format!("`{value}` is not a number"))
}

const NANOSECONDS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_bursts_of_five_times_their_count() {
        let mut settings = Settings::default();
        assert_eq!(settings.rate_limit.limit("a/b"), None);
        per_second("10", &mut settings).unwrap();
        per_minute("60", &mut settings).unwrap();
        let limit = settings.rate_limit.limit("a/b").unwrap();
        let rates = limit.rates.iter().map(|rate| (rate.interval, rate.burst));
        let expected = [(NANOSECONDS / 10, 50), (NANOSECONDS, 300)];
        assert_eq!(rates.collect::<Vec<_>>(), expected);
        burst_multiplier("2", &mut settings).unwrap();
        let limit = settings.rate_limit.limit("a/b").unwrap();
        assert_eq!(limit.rates[0].burst, 20);
        for wrong in ["", "-1", "ten", "1.5"] {
            per_second(wrong, &mut settings).unwrap_err();
        }
    }

    #[test]
    fn bandwidth_is_in_kibibytes() {
        let mut settings = Settings::default();
        assert_eq!(settings.rate_limit.bandwidth(), None);
        bandwidth("2", &mut settings).unwrap();
        bandwidth_after("3", &mut settings).unwrap();
        let found = settings.rate_limit.bandwidth().unwrap();
        assert_eq!((found.bytes_per_second.get(), found.after), (2048, 3072));
    }
}
