//! When requests go on to another endpoint.
//!
//! Source: ingress-nginx, annotations `proxy-next-upstream`, `proxy-next-upstream-tries` and
//! `proxy-next-upstream-timeout`.

use std::num::NonZeroU32;

use super::Settings;
use crate::ir::{RetryAfter, RetryCause};

/// Names of causes, with spaces between them.
pub(super) fn next_upstream(value: &str, settings: &mut Settings) -> Result<(), String> {
    let after: RetryAfter = value
        .split_ascii_whitespace()
        .map(cause)
        .collect::<Result<_, _>>()?;
    if after == RetryAfter::default() {
        return Err("names nothing; ignored".to_owned());
    }
    settings.retries.after = Some(after);
    Ok(())
}

fn cause(name: &str) -> Result<RetryCause, String> {
    let mut names = RetryCause::NAMES.iter();
    let cause = names.find(|(known, _)| *known == name);
    cause.map(|(_, cause)| *cause).ok_or_else(|| {
        let known = RetryCause::NAMES.map(|(known, _)| known).join(", ");
        format!("`{name}` is not one of {known}; ignored")
    })
}

pub(super) fn tries(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.retries.tries_max = Some(number(value)?);
    Ok(())
}

/// Seconds; 0: any number of them.
pub(super) fn timeout(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.retries.seconds_max = NonZeroU32::new(number(value)?);
    Ok(())
}

fn number(value: &str) -> Result<u32, String> {
    let number = value.trim().parse();
    number.map_err(|_| format!("`{value}` is no number; ignored"))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::annotation::of_ingress;
    use crate::ir::Retries;

    fn read(key: &str, value: &str) -> (Retries, usize) {
        let key = format!("nginx.ingress.kubernetes.io/{key}");
        let annotations = BTreeMap::from([(key, value.to_owned())]);
        let (settings, mistakes) = of_ingress(&annotations, Settings::default(), &BTreeSet::new());
        (settings.retries, mistakes.len())
    }

    #[test]
    fn causes_are_named() {
        let causes = |all: &[RetryCause]| Retries {
            after: Some(all.iter().copied().collect()),
            ..Retries::default()
        };
        let all = [
            RetryCause::Error,
            RetryCause::Timeout,
            RetryCause::Http502,
            RetryCause::NonIdempotent,
        ];
        let value = "error timeout  http_502 non_idempotent";
        assert_eq!(read("proxy-next-upstream", value), (causes(&all), 0));
        let off = causes(&[RetryCause::Off]);
        assert_eq!(read("proxy-next-upstream", "off"), (off, 0));
        for wrong in ["", " ", "error,timeout", "http_501", "Error", "error; off"] {
            let none = (Retries::default(), 1);
            assert_eq!(read("proxy-next-upstream", wrong), none, "{wrong}");
        }
    }

    #[test]
    fn bounds_are_numbers() {
        let tries = |number| Retries {
            tries_max: Some(number),
            ..Retries::default()
        };
        assert_eq!(read("proxy-next-upstream-tries", "7"), (tries(7), 0));
        assert_eq!(read("proxy-next-upstream-tries", "0"), (tries(0), 0));
        let time = Retries {
            seconds_max: NonZeroU32::new(9),
            ..Retries::default()
        };
        assert_eq!(read("proxy-next-upstream-timeout", "9"), (time, 0));
        let none = Retries::default();
        assert_eq!(read("proxy-next-upstream-timeout", "0"), (none, 0));
        for key in ["proxy-next-upstream-tries", "proxy-next-upstream-timeout"] {
            for wrong in ["", "-1", "1s", "x"] {
                assert_eq!(read(key, wrong), (none, 1), "{key} {wrong}");
            }
        }
    }
}
