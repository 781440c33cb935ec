//! The state of orders that nodes share, as JSON in a Secret: the leader writes it, all nodes read it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Wanted;
use super::schedule::{HOUR, Limits, next_order, retry_pause};
use crate::ir::{self, ChallengeKind, Host};

/// Challenges under way, failures that postpone orders, and orders of the last hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    challenges: Vec<StoredChallenge>,
    /// Failed orders by [`Wanted::key`].
    failures: BTreeMap<String, Failure>,
    /// Orders by the name of their issuer.
    orders: BTreeMap<String, Orders>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredChallenge {
    host: String,
    kind: String,
    token: String,
    key_authorization: String,
    /// When it was added; a challenge that a dead node left is dropped some time later.
    since: i64,
}

/// Attempts to get one certificate that failed in a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// [`Wanted::fingerprint`] of the order.
    pub wanted: u64,
    /// How many.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: String,
    /// When the next one follows, in seconds since 1970.
    pub retry_at: i64,
}

/// Orders at one issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Orders {
    /// Those of the last hour.
    recent: Vec<Order>,
    /// No order before this time, by the issuer's `Retry-After`.
    pub not_before: i64,
    /// Certificates issued.
    pub issued: u64,
    /// Orders that failed.
    pub failed: u64,
}

/// One order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Order {
    /// When it was made, in seconds since 1970.
    at: i64,
    /// The namespace that it was made for.
    namespace: String,
}

/// Why a Secret has no state.
#[derive(Debug, Error)]
pub enum StateError {
    /// It has no such key.
    #[error("has no `{STATE_KEY}`")]
    Missing,
    /// The key is something else.
    #[error("`{STATE_KEY}` cannot be read: {0}")]
    Json(#[from] serde_json::Error),
}

impl State {
    /// Reads the state in a Secret.
    ///
    /// # Errors
    ///
    /// An error if the key is missing or not the JSON of a state.
    pub fn read(secret: &Secret) -> Result<Self, StateError> {
        let value = secret.data.as_ref().and_then(|data| data.get(STATE_KEY));
        let value = value.ok_or(StateError::Missing)?;
        Ok(serde_json::from_slice(&value.0)?)
    }

    /// The value of [`STATE_KEY`].
    pub fn write(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// The challenges to answer. Entries that are not valid challenges are left out.
    pub fn challenges(&self) -> Vec<ir::Challenge> {
        let stored = self.challenges.iter().take(CHALLENGES_MAX);
        stored.filter_map(StoredChallenge::read).collect()
    }

    /// Adds a challenge; false if it cannot be answered or the limit is reached.
    pub fn add_challenge(&mut self, challenge: &ir::Challenge, now: i64) -> bool {
        let stored = StoredChallenge {
            host: challenge.host.to_string(),
            kind: challenge.kind.as_str().to_owned(),
            token: challenge.token.to_string(),
            key_authorization: challenge.key_authorization.to_string(),
            since: now,
        };
        let is_added = stored.read().is_some() && self.challenges.len() < CHALLENGES_MAX;
        if is_added {
            self.challenges.push(stored);
        }
        is_added
    }

    /// Drops the challenges with these tokens.
    pub fn remove_challenges(&mut self, tokens: &[String]) {
        self.challenges
            .retain(|stored| !tokens.contains(&stored.token));
    }

    /// The failure of a wanted certificate, if its last order failed.
    pub fn failure(&self, wanted: &Wanted) -> Option<&Failure> {
        let failure = self.failures.get(&wanted.key())?;
        (failure.wanted == wanted.fingerprint()).then_some(failure)
    }

    /// Notes that an order failed, and when the next one follows.
    pub fn fail(&mut self, wanted: &Wanted, error: &str, limits: Limits, seed: u64, now: i64) {
        let attempts = self.failure(wanted).map_or(0, |failure| failure.attempts);
        let attempts = attempts.saturating_add(1);
        let failure = Failure {
            wanted: wanted.fingerprint(),
            attempts,
            error: shortened(error),
            retry_at: now.saturating_add(retry_pause(attempts, limits.first_retry, seed)),
        };
        if self.failures.len() < FAILURES_MAX || self.failures.contains_key(&wanted.key()) {
            self.failures.insert(wanted.key(), failure);
        }
        let orders = self.orders_mut(&wanted.issuer);
        orders.failed = orders.failed.saturating_add(1);
    }

    /// Notes that a certificate was issued.
    pub fn succeed(&mut self, wanted: &Wanted) {
        self.failures.remove(&wanted.key());
        let orders = self.orders_mut(&wanted.issuer);
        orders.issued = orders.issued.saturating_add(1);
    }

    /// The orders at an issuer.
    pub fn orders(&self, issuer: &str) -> Option<&Orders> {
        self.orders.get(issuer)
    }

    /// Every issuer that was asked, with its orders.
    pub fn all_orders(&self) -> impl Iterator<Item = (&str, &Orders)> {
        self.orders.iter().map(|(name, orders)| (&**name, orders))
    }

    /// The earliest time of the next order for a wanted certificate, by the limits of its issuer. One
    /// namespace gets at most half of the orders, so that it cannot delay the others for long.
    pub fn next_order(&self, wanted: &Wanted, limits: Limits, now: i64) -> i64 {
        let Some(orders) = self.orders.get(&*wanted.issuer) else {
            return now;
        };
        let of_namespace = |order: &&Order| *order.namespace == *wanted.secret.namespace;
        let times = |order: &Order| order.at;
        let all: Vec<i64> = orders.recent.iter().map(times).collect();
        let own: Vec<i64> = (orders.recent.iter().filter(of_namespace))
            .map(times)
            .collect();
        let most = limits.orders_per_hour;
        next_order(&all, most, now)
            .max(next_order(&own, most.div_ceil(2), now))
            .max(orders.not_before)
    }

    /// Orders for a namespace at an issuer within the last hour.
    pub fn recent_orders(&self, wanted: &Wanted) -> usize {
        let orders = self.orders.get(&*wanted.issuer);
        let recent = orders.map_or(&[][..], |orders| &orders.recent);
        let of_namespace = |order: &&Order| *order.namespace == *wanted.secret.namespace;
        recent.iter().filter(of_namespace).count()
    }

    /// Notes that an order is made now.
    pub fn ordered(&mut self, wanted: &Wanted, now: i64) {
        let orders = self.orders_mut(&wanted.issuer);
        orders
            .recent
            .retain(|order| order.at > now.saturating_sub(HOUR) && order.at <= now);
        orders.recent.push(Order {
            at: now,
            namespace: wanted.secret.namespace.to_string(),
        });
    }

    /// Records the time until which the issuer refuses orders.
    pub fn postpone(&mut self, issuer: &str, until: i64) {
        let orders = self.orders_mut(issuer);
        orders.not_before = orders.not_before.max(until);
    }

    /// Removes failures of certificates that are no longer wanted, and challenges of nodes that died.
    pub fn tidy(&mut self, wanted: &[Wanted], now: i64) {
        let known = wanted.iter();
        let known: BTreeMap<String, u64> = known
            .map(|wanted| (wanted.key(), wanted.fingerprint()))
            .collect();
        self.failures
            .retain(|key, failure| known.get(key) == Some(&failure.wanted));
        let oldest = now.saturating_sub(CHALLENGE_LIFE);
        self.challenges
            .retain(|stored| stored.since <= now && stored.since > oldest);
    }

    fn orders_mut(&mut self, issuer: &str) -> &mut Orders {
        self.orders.entry(issuer.to_owned()).or_default()
    }
}

impl StoredChallenge {
    fn read(&self) -> Option<ir::Challenge> {
        let Self {
            host,
            kind,
            token,
            key_authorization,
            since: _,
        } = self;
        // RFC 8555 §8.3: a token is base64url, so that it can stand in a path.
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_token = !token.is_empty() && token.bytes().all(is_plain);
        let is_visible = key_authorization
            .bytes()
            .all(|byte| byte.is_ascii_graphic());
        let is_short =
            token.len() <= TOKEN_BYTES_MAX && key_authorization.len() <= 2 * TOKEN_BYTES_MAX;
        if !is_token || !is_visible || !is_short {
            return None;
        }
        Some(ir::Challenge {
            host: Host::parse(host).ok()?,
            kind: ChallengeKind::parse(kind)?,
            token: token.as_str().into(),
            key_authorization: key_authorization.as_str().into(),
        })
    }
}

/// One line that fits an Event.
fn shortened(error: &str) -> String {
    let visible = error
        .chars()
        .map(|char| if char.is_control() { ' ' } else { char });
    let line: String = visible.take(ERROR_CHARS_MAX).collect();
    line.trim().to_owned()
}

/// The key of the Secret.
pub const STATE_KEY: &str = "state.json";
/// Challenges at one time: a Secret has at most 1 MiB.
const CHALLENGES_MAX: usize = 512;
/// Failures that are remembered.
const FAILURES_MAX: usize = 1024;
const ERROR_CHARS_MAX: usize = 300;
const TOKEN_BYTES_MAX: usize = 256;
/// Longer than an order takes, in seconds.
const CHALLENGE_LIFE: i64 = 15 * 60;

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use proptest::prelude::*;

    use super::*;
    use crate::ir::ObjectRef;

    fn wanted(name: &str) -> Wanted {
        let object = |kind| ObjectRef {
            kind,
            namespace: "shop".into(),
            name: name.into(),
        };
        Wanted {
            secret: object("Secret"),
            issuer: "le".into(),
            hosts: [Host::parse("a.test").unwrap()].into(),
            ingress: object("Ingress"),
            field: String::new(),
        }
    }

    fn secret(value: Vec<u8>) -> Secret {
        Secret {
            data: Some([(STATE_KEY.to_owned(), ByteString(value))].into()),
            ..Secret::default()
        }
    }

    fn challenge(token: &str) -> ir::Challenge {
        ir::Challenge {
            host: Host::parse("a.test").unwrap(),
            kind: ChallengeKind::Http01,
            token: token.into(),
            key_authorization: format!("{token}.thumb").into(),
        }
    }

    const LIMITS: Limits = Limits {
        orders_per_hour: 10,
        first_retry: 60,
    };

    #[test]
    fn state_is_read_back_as_it_was_written() {
        let mut state = State::default();
        assert!(state.add_challenge(&challenge("abc"), 5));
        state.ordered(&wanted("web"), 10);
        state.fail(&wanted("web"), "no\nway", LIMITS, 0, 10);
        state.postpone("le", 99);
        let read = State::read(&secret(state.write())).unwrap();
        assert_eq!(read, state);
        assert_eq!(read.challenges(), [challenge("abc")]);
        let failure = read.failure(&wanted("web")).unwrap();
        assert_eq!((failure.attempts, failure.retry_at), (1, 70));
        assert_eq!(failure.error, "no way");
    }

    #[test]
    fn issued_certificate_clears_its_failures_alone() {
        let mut state = State::default();
        for name in ["web", "web", "api"] {
            state.fail(&wanted(name), "no", LIMITS, 0, 10);
        }
        assert_eq!(state.failure(&wanted("web")).unwrap().attempts, 2);
        state.succeed(&wanted("web"));
        assert_eq!(state.failure(&wanted("web")), None);
        assert_eq!(state.failure(&wanted("api")).unwrap().attempts, 1);
        let orders = state.orders("le").unwrap();
        assert_eq!((orders.issued, orders.failed), (1, 3));
    }

    #[test]
    fn challenges_of_a_dead_node_and_failures_of_gone_ingresses_are_forgotten() {
        let mut state = State::default();
        state.add_challenge(&challenge("old"), 0);
        state.add_challenge(&challenge("new"), 1000);
        state.fail(&wanted("web"), "no", LIMITS, 0, 10);
        state.fail(&wanted("api"), "no", LIMITS, 0, 10);
        state.tidy(&[wanted("api")], 1000);
        assert_eq!(state.challenges(), [challenge("new")]);
        assert_eq!(state.failure(&wanted("web")), None);
        assert!(state.failure(&wanted("api")).is_some());
    }

    #[test]
    fn namespace_gets_at_most_half_of_the_orders_at_an_issuer() {
        let mut state = State::default();
        let of = |namespace: &str| {
            let mut wanted = wanted("web");
            wanted.secret.namespace = namespace.into();
            wanted
        };
        for _ in 0..5 {
            assert_eq!(state.next_order(&of("greedy"), LIMITS, 50), 50);
            state.ordered(&of("greedy"), 50);
        }
        assert_eq!(state.next_order(&of("greedy"), LIMITS, 60), 50 + HOUR);
        assert_eq!(state.next_order(&of("modest"), LIMITS, 60), 60);
        state.postpone("le", 100);
        assert_eq!(state.next_order(&of("modest"), LIMITS, 60), 100);
    }

    #[test]
    fn tokens_that_could_be_paths_are_refused() {
        for token in ["", "../x", "a/b", "a b", "a\nb", "ä"] {
            let is_added = State::default().add_challenge(&challenge(token), 0);
            assert!(!is_added, "{token}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_state_or_an_error(bytes: Vec<u8>) {
            if let Ok(state) = State::read(&secret(bytes)) {
                state.challenges();
            }
        }

        #[test]
        fn any_error_is_one_short_line(error: String) {
            let line = shortened(&error);
            prop_assert!(line.chars().count() <= ERROR_CHARS_MAX);
            prop_assert!(!line.chars().any(char::is_control));
        }
    }
}
