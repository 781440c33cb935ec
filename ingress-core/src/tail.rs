//! Which requests `sluice tail` shows: the patterns of its flags, and whether a request fits them.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Which requests are shown. A request has to fit every pattern that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TailFilter {
    /// Statuses, any of them; empty for every status.
    #[serde(default)]
    pub statuses: Vec<StatusRange>,
    /// The host that the client asked for.
    #[serde(default)]
    pub host: Option<HostGlob>,
    /// The prefix of the path, compared byte for byte.
    #[serde(default)]
    pub path: Option<String>,
    /// The method, as clients spell it.
    #[serde(default)]
    pub method: Option<String>,
    /// The shortest time from the head of the request to the end of the response.
    #[serde(default)]
    pub slower: Option<Duration>,
}

/// The properties of a completed request that a filter compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndedRequest<'a> {
    /// The status that its client got; 499 if the client left before.
    pub status: u16,
    /// The host that the client asked for, without port.
    pub host: &'a str,
    /// The path without query.
    pub path: &'a str,
    /// The method.
    pub method: &'a str,
    /// From the head of the request to the end of the response.
    pub took: Duration,
}

impl TailFilter {
    /// Returns true if a request fits all patterns.
    pub fn matches(&self, request: &EndedRequest<'_>) -> bool {
        let Self {
            statuses,
            host,
            path,
            method,
            slower,
        } = self;
        (statuses.is_empty() || statuses.iter().any(|range| range.contains(request.status)))
            && slower.is_none_or(|slower| request.took >= slower)
            && method
                .as_ref()
                .is_none_or(|method| method == request.method)
            && path
                .as_ref()
                .is_none_or(|path| request.path.starts_with(&**path))
            && host.as_ref().is_none_or(|host| host.matches(request.host))
    }
}

/// Statuses that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    first: u16,
    last: u16,
}

impl StatusRange {
    fn contains(self, status: u16) -> bool {
        (self.first..=self.last).contains(&status)
    }
}

impl FromStr for StatusRange {
    type Err = PatternError;

    /// Reads `404`, `5xx` or `500-503`.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        let number = |text: &str| {
            let is_number = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_number);
            number.ok_or(PatternError::Status)
        };
        let (first, last) = match (text.strip_suffix("xx"), text.split_once('-')) {
            (Some(class), _) => (
                number(&format!("{class}00"))?,
                number(&format!("{class}99"))?,
            ),
            (None, Some((first, last))) => (number(first)?, number(last)?),
            (None, None) => (number(text)?, number(text)?),
        };
        if first < 100 || first > last {
            return Err(PatternError::Status);
        }
        Ok(Self { first, last })
    }
}

/// A host name in which `*` stands for any characters, without regard to case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostGlob(String);

impl HostGlob {
    /// Returns true if the whole host fits.
    pub fn matches(&self, host: &str) -> bool {
        let (pattern, host) = (self.0.as_bytes(), host.as_bytes());
        let (mut at, mut place) = (0, 0);
        // Where the last `*` stands, and what of the host it stands for so far.
        let mut last: Option<(usize, usize)> = None;
        while place < host.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    last = Some((at, place));
                    at += 1;
                }
                Some(byte) if byte.eq_ignore_ascii_case(&host[place]) => {
                    at += 1;
                    place += 1;
                }
                Some(_) | None => {
                    let Some((star, taken)) = last else {
                        return false;
                    };
                    last = Some((star, taken + 1));
                    (at, place) = (star + 1, taken + 1);
                }
            }
        }
        pattern[at..].iter().all(|byte| *byte == b'*')
    }
}

impl FromStr for HostGlob {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for HostGlob {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Self, PatternError> {
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"*-._:[]".contains(&byte);
        if text.is_empty() || text.len() > HOST_BYTES_MAX || !text.bytes().all(is_host) {
            return Err(PatternError::Host);
        }
        Ok(Self(text))
    }
}

impl From<HostGlob> for String {
    fn from(glob: HostGlob) -> Self {
        glob.0
    }
}

/// Reads a time with its unit, such as `500ms`, `2s` or `1m`.
///
/// # Errors
///
/// [`PatternError::Time`] if there is no number, no unit, or more than a day.
pub fn parse_slower(text: &str) -> Result<Duration, PatternError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| PatternError::Time)?;
    let milliseconds = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        _ => return Err(PatternError::Time),
    };
    match number.checked_mul(milliseconds) {
        Some(time @ 0..=MILLISECONDS_MAX) => Ok(Duration::from_millis(time)),
        Some(_) | None => Err(PatternError::Time),
    }
}

/// Why a pattern cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Not a status.
    #[error("expected a status such as 404, 5xx or 500-503")]
    Status,
    /// Not a host.
    #[error(
        "expected a host of at most 255 characters, in which `*` stands for any, such as *.shop.example"
    )]
    Host,
    /// Not a time.
    #[error("expected a time of at most a day with ms, s or m, such as 500ms")]
    Time,
}

/// Longer than any host name (RFC 1035 §2.3.4).
const HOST_BYTES_MAX: usize = 255;
/// A day.
const MILLISECONDS_MAX: u64 = 86_400_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> EndedRequest<'static> {
        EndedRequest {
            status: 503,
            host: "www.shop.example",
            path: "/cart/1",
            method: "POST",
            took: Duration::from_millis(700),
        }
    }

    #[test]
    fn a_request_has_to_fit_every_pattern() {
        let all = TailFilter {
            statuses: vec!["404".parse().unwrap(), "5xx".parse().unwrap()],
            host: Some("*.SHOP.example".parse().unwrap()),
            path: Some("/cart".to_owned()),
            method: Some("POST".to_owned()),
            slower: Some(Duration::from_millis(700)),
        };
        assert!(all.matches(&request()));
        assert!(TailFilter::default().matches(&request()));
        for other in [
            EndedRequest {
                status: 400,
                ..request()
            },
            EndedRequest {
                host: "shop.example",
                ..request()
            },
            EndedRequest {
                path: "/",
                ..request()
            },
            EndedRequest {
                method: "post",
                ..request()
            },
            EndedRequest {
                took: Duration::from_millis(699),
                ..request()
            },
        ] {
            assert!(!all.matches(&other), "{other:?}");
        }
    }

    #[test]
    fn statuses_are_numbers_classes_and_ranges() {
        let range = |text: &str| text.parse::<StatusRange>();
        assert_eq!(
            range("404"),
            Ok(StatusRange {
                first: 404,
                last: 404
            })
        );
        assert_eq!(
            range("5xx"),
            Ok(StatusRange {
                first: 500,
                last: 599
            })
        );
        assert_eq!(
            range("500-503"),
            Ok(StatusRange {
                first: 500,
                last: 503
            })
        );
        for text in [
            "", "xx", "0xx", "55xx", "5x", "4044", "503-500", "+40", "-", "99", "é00",
        ] {
            assert_eq!(range(text), Err(PatternError::Status), "{text}");
        }
    }

    #[test]
    fn times_have_units_and_a_bound() {
        assert_eq!(parse_slower("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_slower("2s"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_slower("1m"), Ok(Duration::from_mins(1)));
        for text in [
            "",
            "5",
            "ms",
            "-1s",
            "1.5s",
            "2d",
            "1441m",
            "99999999999999999999s",
        ] {
            assert_eq!(parse_slower(text), Err(PatternError::Time), "{text}");
        }
    }

    #[test]
    fn hosts_that_no_client_can_ask_for_are_refused() {
        for text in ["", "a b", "a/b", "é", &"a".repeat(256)] {
            assert_eq!(text.parse::<HostGlob>(), Err(PatternError::Host), "{text}");
        }
        serde_json::from_str::<HostGlob>("\"a/b\"").unwrap_err();
    }

    /// The same by trying every length of each `*`.
    fn naive(pattern: &[u8], host: &[u8]) -> bool {
        match pattern.split_first() {
            None => host.is_empty(),
            Some((b'*', rest)) => (0..=host.len()).any(|length| naive(rest, &host[length..])),
            Some((byte, rest)) => host
                .split_first()
                .is_some_and(|(first, others)| first == byte && naive(rest, others)),
        }
    }

    proptest! {
        #[test]
        fn globs_match_as_by_trying_everything(pattern in "[ab*]{1,8}", host in "[ab]{0,8}") {
            let glob: HostGlob = pattern.parse().unwrap();
            prop_assert_eq!(glob.matches(&host), naive(pattern.as_bytes(), host.as_bytes()));
        }

        #[test]
        fn a_filter_survives_json(status in 100_u16..600, host in "[a-z*.]{1,20}", path in ".{0,20}") {
            let filter = TailFilter {
                statuses: vec![status.to_string().parse().unwrap()],
                host: Some(host.parse().unwrap()),
                path: Some(path),
                method: None,
                slower: Some(Duration::from_millis(status.into())),
            };
            let json = serde_json::to_string(&filter).unwrap();
            prop_assert_eq!(serde_json::from_str::<TailFilter>(&json).unwrap(), filter);
        }
    }
}
