//! Probes of endpoints: `health-check` and its family, which ingress-nginx does not have.

use std::num::NonZeroU32;
use std::sync::Arc;

use http::uri::{Authority, PathAndQuery};

use super::Settings;
use crate::ir::{HealthCheck, HttpProbe, Probe};

/// The settings for probes, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HealthCheckSettings {
    kind: Kind,
    path: Arc<str>,
    host: Option<Arc<str>>,
    statuses: Box<[(u16, u16)]>,
    interval: NonZeroU32,
    timeout: NonZeroU32,
    healthy_threshold: NonZeroU32,
    unhealthy_threshold: NonZeroU32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Off,
    Tcp,
    Http,
}

impl Default for HealthCheckSettings {
    fn default() -> Self {
        let number = |number: u32| NonZeroU32::MIN.saturating_add(number - 1);
        Self {
            kind: Kind::Off,
            path: "/".into(),
            host: None,
            statuses: [(200, 399)].into(),
            interval: number(10),
            timeout: number(2),
            healthy_threshold: number(2),
            unhealthy_threshold: number(3),
        }
    }
}

impl HealthCheckSettings {
    /// The pieces together, if endpoints are to be probed.
    pub(super) fn check(&self) -> Option<Arc<HealthCheck>> {
        let probe = match self.kind {
            Kind::Off => return None,
            Kind::Tcp => Probe::Tcp,
            Kind::Http => Probe::Http(HttpProbe {
                path: Arc::clone(&self.path),
                host: self.host.clone(),
                statuses: self.statuses.clone(),
            }),
        };
        Some(Arc::new(HealthCheck {
            probe,
            interval: self.interval,
            timeout: self.timeout,
            healthy_threshold: self.healthy_threshold,
            unhealthy_threshold: self.unhealthy_threshold,
        }))
    }
}

pub(super) fn kind(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.health_check.kind = match value.trim() {
        "off" | "" => Kind::Off,
        "tcp" => Kind::Tcp,
        "http" => Kind::Http,
        _ => return Err(format!("`{value}` is not one of http, tcp, off; ignored")),
    };
    Ok(())
}

pub(super) fn path(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    if !value.starts_with('/') || PathAndQuery::try_from(value).is_err() {
        return Err(format!("`{value}` is not a path; ignored"));
    }
    settings.health_check.path = value.into();
    Ok(())
}

pub(super) fn host(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_host = Authority::try_from(value).is_ok_and(|host| !host.as_str().contains('@'));
    if !is_host {
        return Err(format!("`{value}` is not a host; ignored"));
    }
    settings.health_check.host = Some(value.into());
    Ok(())
}

/// Statuses and ranges of them, with commas in between.
pub(super) fn statuses(value: &str, settings: &mut Settings) -> Result<(), String> {
    let range = |text: &str| {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let number = |text: &str| text.trim().parse().ok();
        let (first, last): (u16, u16) = (number(first)?, number(last)?);
        (100 <= first && first <= last && last <= 599).then_some((first, last))
    };
    let ranges: Option<Box<[_]>> = value.split(',').map(range).collect();
    settings.health_check.statuses = ranges
        .ok_or_else(|| format!("`{value}` is not a list of statuses like 200-299,404; ignored"))?;
    Ok(())
}

pub(super) fn interval(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.health_check.interval = number(value, SECONDS_MAX)?;
    Ok(())
}

pub(super) fn timeout(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.health_check.timeout = number(value, SECONDS_MAX)?;
    Ok(())
}

pub(super) fn healthy_threshold(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.health_check.healthy_threshold = number(value, THRESHOLD_MAX)?;
    Ok(())
}

pub(super) fn unhealthy_threshold(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.health_check.unhealthy_threshold = number(value, THRESHOLD_MAX)?;
    Ok(())
}

fn number(value: &str, max: u32) -> Result<NonZeroU32, String> {
    let number = value.trim().parse().ok();
    let number = number.filter(|number: &NonZeroU32| number.get() <= max);
    number.ok_or_else(|| format!("`{value}` is not a number from 1 to {max}; ignored"))
}

const SECONDS_MAX: u32 = 3600;
const THRESHOLD_MAX: u32 = 100;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::annotation::of_ingress;

    fn read(annotations: &[(&str, &str)]) -> (Option<Arc<HealthCheck>>, usize) {
        let owned = |(key, value): &(&str, &str)| (format!("sluice.dev/{key}"), (*value).into());
        let annotations: BTreeMap<_, _> = annotations.iter().map(owned).collect();
        let (settings, mistakes) = of_ingress(&annotations, Settings::default(), &BTreeSet::new());
        (settings.backend.health_check, mistakes.len())
    }

    #[test]
    fn endpoints_are_probed_where_a_kind_is_given() {
        let path = ("health-check-path", "/ready?full");
        assert_eq!(read(&[path]), (None, 0));
        assert_eq!(read(&[("health-check", "off"), path]), (None, 0));
        let (tcp, _) = read(&[("health-check", "tcp")]);
        assert_eq!(tcp.unwrap().probe, Probe::Tcp);
        let (http, mistakes) = read(&[
            ("health-check", "http"),
            path,
            ("health-check-host", "a.test"),
            ("health-check-status", "200-299, 404"),
            ("health-check-interval", "5"),
            ("health-check-timeout", "1"),
            ("health-check-healthy-threshold", "4"),
            ("health-check-unhealthy-threshold", "6"),
        ]);
        assert_eq!(mistakes, 0);
        let http = http.unwrap();
        let Probe::Http(probe) = &http.probe else {
            panic!("{http:?}")
        };
        assert_eq!(&*probe.path, "/ready?full");
        assert_eq!(probe.host.as_deref(), Some("a.test"));
        assert!(probe.expects(204) && probe.expects(404) && !probe.expects(302));
        let numbers = [
            http.interval,
            http.timeout,
            http.healthy_threshold,
            http.unhealthy_threshold,
        ];
        assert_eq!(numbers.map(NonZeroU32::get), [5, 1, 4, 6]);
    }

    #[test]
    fn invalid_values_leave_the_defaults() {
        let (default, _) = read(&[("health-check", "http")]);
        for (key, value) in [
            ("health-check-path", "ready"),
            ("health-check-path", "/a b"),
            ("health-check-host", "a\r\nb"),
            ("health-check-host", "a@b"),
            ("health-check-status", "299-200"),
            ("health-check-status", "99"),
            ("health-check-status", ""),
            ("health-check-interval", "0"),
            ("health-check-interval", "3601"),
            ("health-check-timeout", "-1"),
            ("health-check-healthy-threshold", "101"),
            ("health-check-unhealthy-threshold", "x"),
        ] {
            let read = read(&[("health-check", "http"), (key, value)]);
            assert_eq!(read, (default.clone(), 1), "{key}: {value}");
        }
        assert_eq!(read(&[("health-check", "grpc")]), (None, 1));
    }
}
