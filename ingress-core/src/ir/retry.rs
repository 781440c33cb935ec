//! When a request goes on to another endpoint.

use std::num::NonZeroU32;

/// What an Ingress, or its class, says about endpoints that fail a request.
///
/// Where it says nothing, a request goes on only if no endpoint can have executed it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Retries {
    /// After what it goes on as well.
    pub after: Option<RetryAfter>,
    /// Endpoints that one request is tried on, the first of them included; 0: any number.
    pub tries_max: Option<u32>,
    /// Seconds from the request's begin in which another endpoint may be asked. `None`: any.
    pub seconds_max: Option<NonZeroU32>,
}

/// A set of causes, for any of which a request goes on to another endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RetryAfter(u16);

/// What has come of a request at one endpoint; the last two say something about all of them.
///
/// Source: nginx, directive `proxy_next_upstream`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryCause {
    /// The connection broke before a response.
    Error,
    /// No response came in time.
    Timeout,
    /// The response head is no good.
    InvalidHeader,
    /// A response of this status.
    Http403,
    /// A response of this status.
    Http404,
    /// A response of this status.
    Http429,
    /// A response of this status.
    Http500,
    /// A response of this status.
    Http502,
    /// A response of this status.
    Http503,
    /// A response of this status.
    Http504,
    /// Nothing by itself: has methods that are not idempotent (RFC 9110 §9.2.2) go on too.
    NonIdempotent,
    /// Nothing: has no request go on, not even one that no endpoint has seen.
    Off,
}

impl RetryAfter {
    /// Whether a cause is one of the set.
    pub fn has(self, cause: RetryCause) -> bool {
        self.0 & bit(cause) != 0
    }
}

impl FromIterator<RetryCause> for RetryAfter {
    fn from_iter<T: IntoIterator<Item = RetryCause>>(causes: T) -> Self {
        Self(causes.into_iter().map(bit).fold(0, |all, bit| all | bit))
    }
}

fn bit(cause: RetryCause) -> u16 {
    1 << cause as u16
}

impl RetryCause {
    /// All of them, each as nginx spells it.
    pub const NAMES: [(&str, Self); 12] = [
        ("error", Self::Error),
        ("timeout", Self::Timeout),
        ("invalid_header", Self::InvalidHeader),
        ("http_403", Self::Http403),
        ("http_404", Self::Http404),
        ("http_429", Self::Http429),
        ("http_500", Self::Http500),
        ("http_502", Self::Http502),
        ("http_503", Self::Http503),
        ("http_504", Self::Http504),
        ("non_idempotent", Self::NonIdempotent),
        ("off", Self::Off),
    ];

    /// The cause that a response status is, if it can be one.
    pub fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            403 => Self::Http403,
            404 => Self::Http404,
            429 => Self::Http429,
            500 => Self::Http500,
            502 => Self::Http502,
            503 => Self::Http503,
            504 => Self::Http504,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        for (name, cause) in RetryCause::NAMES {
            let set = RetryAfter::from_iter([cause]);
            for (other_name, other) in RetryCause::NAMES {
                assert_eq!(set.has(other), name == other_name, "{name} {other_name}");
            }
        }
    }

    #[test]
    fn a_status_is_the_cause_of_its_name() {
        for status in 100..600 {
            let cause = RetryCause::of_status(status);
            let name = format!("http_{status}");
            let mut all = RetryCause::NAMES.iter();
            let expected = all.find(|(known, _)| *known == name);
            assert_eq!(cause, expected.map(|(_, cause)| *cause), "{status}");
        }
    }
}
