//! One-time tokens and sessions of the dashboard, in memory. Pure: the caller gives clock and randomness.
//!
//! Invariant: only SHA-256 digests of secrets are kept, they are compared in constant time, and every list
//! has a bound.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq as _;

/// 256 random bits that a browser presents.
#[derive(Clone, Copy)]
pub(super) struct Secret([u8; SECRET_BYTES]);

impl Secret {
    /// A new one from the kernel's randomness; `None` if the kernel has none.
    pub(super) fn random() -> Option<Self> {
        let mut bytes = [0; SECRET_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        Some(Self(bytes))
    }

    /// The text that a URL or a cookie carries.
    pub(super) fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// What a session may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    /// Requests as they end, with addresses of clients.
    pub tail: bool,
}

/// Wrong attempts to log in have reached their limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooManyAttempts;

/// Tokens that wait to be redeemed, and open sessions.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    tokens: VecDeque<(Digest, Instant)>,
    open: VecDeque<(Digest, Instant, Rights)>,
    failures: VecDeque<Instant>,
}

impl Sessions {
    /// Makes a token valid for one login within [`TOKEN_LIFE`]. Beyond the bound, the oldest one is
    /// forgotten.
    pub(super) fn mint(&mut self, token: &Secret, now: Instant) {
        self.tokens.retain(|(_, until)| *until > now);
        if self.tokens.len() >= TOKENS_MAX {
            self.tokens.pop_front();
        }
        let digest = Digest::of(&token.text());
        self.tokens.push_back((digest, now + TOKEN_LIFE));
    }

    /// Takes a token. Returns true if it was minted, has not expired and has not been taken before. A
    /// right token is taken however many wrong ones came before it: nobody can lock the operator out.
    ///
    /// # Errors
    ///
    /// [`TooManyAttempts`] if the token is wrong, as [`FAILURES_MAX`] others were in the last minute.
    pub(super) fn redeem(
        &mut self,
        presented: &str,
        now: Instant,
    ) -> Result<bool, TooManyAttempts> {
        self.tokens.retain(|(_, until)| *until > now);
        let digest = Digest::of(presented);
        let found = self.tokens.iter().position(|(token, _)| token.is(&digest));
        if let Some(index) = found {
            self.tokens.remove(index);
            return Ok(true);
        }
        self.admit(now)?;
        self.fail(now);
        Ok(false)
    }

    /// Returns normally if another attempt is allowed.
    ///
    /// # Errors
    ///
    /// [`TooManyAttempts`] after [`FAILURES_MAX`] failures within a minute.
    pub(super) fn admit(&mut self, now: Instant) -> Result<(), TooManyAttempts> {
        self.failures
            .retain(|failed| now.saturating_duration_since(*failed) < FAILURES_PERIOD);
        if self.failures.len() >= FAILURES_MAX {
            return Err(TooManyAttempts);
        }
        Ok(())
    }

    /// Counts a failed attempt.
    pub(super) fn fail(&mut self, now: Instant) {
        if self.failures.len() < FAILURES_MAX {
            self.failures.push_back(now);
        }
    }

    /// Opens a session for [`SESSION_LIFE`]. Beyond the bound, the oldest one ends.
    pub(super) fn open(&mut self, session: &Secret, rights: Rights, now: Instant) {
        self.open.retain(|(_, until, _)| *until > now);
        if self.open.len() >= SESSIONS_MAX {
            self.open.pop_front();
        }
        let digest = Digest::of(&session.text());
        self.open.push_back((digest, now + SESSION_LIFE, rights));
    }

    /// The rights of the session that a cookie names; `None` if there is no such session.
    pub(super) fn find(&self, presented: &str, now: Instant) -> Option<Rights> {
        let digest = Digest::of(presented);
        let mut open = self.open.iter();
        let found = open.find(|(session, until, _)| session.is(&digest) && *until > now);
        found.map(|(_, _, rights)| *rights)
    }
}

/// SHA-256 of a secret: an attacker who reads the memory cannot log in with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digest([u8; 32]);

impl Digest {
    fn of(text: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
        Self(bytes)
    }

    fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

const SECRET_BYTES: usize = 32;
/// How long a token waits for its browser.
pub(super) const TOKEN_LIFE: Duration = Duration::from_mins(1);
/// How long a session lasts.
pub(super) const SESSION_LIFE: Duration = Duration::from_hours(8);
/// Tokens that wait at the same time.
const TOKENS_MAX: usize = 16;
/// Sessions that are open at the same time.
pub(super) const SESSIONS_MAX: usize = 64;
/// Failed logins within [`FAILURES_PERIOD`], after which further ones are refused unread.
pub(super) const FAILURES_MAX: usize = 10;
const FAILURES_PERIOD: Duration = Duration::from_mins(1);

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn secret(number: u8) -> Secret {
        Secret([number; SECRET_BYTES])
    }

    const ALL: Rights = Rights { tail: true };

    #[test]
    fn token_opens_one_session_within_a_minute() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.mint(&secret(1), now);
        sessions.mint(&secret(2), now);
        assert_eq!(sessions.redeem(&secret(1).text(), now), Ok(true));
        assert_eq!(sessions.redeem(&secret(1).text(), now), Ok(false));
        let late = now + TOKEN_LIFE;
        assert_eq!(sessions.redeem(&secret(2).text(), late), Ok(false));
    }

    #[test]
    fn eleventh_guess_within_a_minute_is_refused_and_a_right_token_is_not() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.mint(&secret(1), now);
        for _ in 0..FAILURES_MAX {
            assert_eq!(sessions.redeem("guess", now), Ok(false));
        }
        assert_eq!(sessions.redeem("guess", now), Err(TooManyAttempts));
        assert_eq!(sessions.redeem(&secret(1).text(), now), Ok(true));
        let later = now + FAILURES_PERIOD;
        assert_eq!(sessions.redeem("guess", later), Ok(false));
    }

    #[test]
    fn session_ends_after_eight_hours() {
        let now = Instant::now();
        let mut sessions = Sessions::default();
        sessions.open(&secret(1), ALL, now);
        assert_eq!(sessions.find(&secret(1).text(), now), Some(ALL));
        let last = now + SESSION_LIFE.checked_sub(Duration::from_secs(1)).unwrap();
        assert_eq!(sessions.find(&secret(1).text(), last), Some(ALL));
        assert_eq!(sessions.find(&secret(1).text(), now + SESSION_LIFE), None);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Mint(u8),
        Redeem(u8),
        Open(u8),
        Find(u8),
        Wait(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..40_u8).prop_map(Step::Mint),
            (0..40_u8).prop_map(Step::Redeem),
            (0..120_u8).prop_map(Step::Open),
            (0..120_u8).prop_map(Step::Find),
            (0..3000_u16).prop_map(Step::Wait),
        ]
    }

    proptest! {
        /// Whatever happens in whatever order: no token opens two sessions, nothing outlives its time,
        /// and no list grows beyond its bound.
        #[test]
        fn no_secret_is_valid_twice_or_too_long(steps in prop::collection::vec(step(), 0..200)) {
            let mut sessions = Sessions::default();
            let mut now = Instant::now();
            let mut minted: HashMap<u8, (usize, Instant)> = HashMap::new();
            let mut opened: HashMap<u8, Instant> = HashMap::new();
            for step in steps {
                match step {
                    Step::Mint(number) => {
                        sessions.mint(&secret(number), now);
                        let one = minted.entry(number).or_insert((0, now));
                        *one = (one.0 + 1, now);
                    }
                    Step::Redeem(number) => {
                        if sessions.redeem(&secret(number).text(), now) == Ok(true) {
                            let (count, at) = minted.get_mut(&number).expect("it was minted");
                            prop_assert!(*count > 0 && now - *at < TOKEN_LIFE);
                            *count -= 1;
                        }
                    }
                    Step::Open(number) => {
                        sessions.open(&secret(number), ALL, now);
                        opened.insert(number, now);
                    }
                    Step::Find(number) => {
                        if sessions.find(&secret(number).text(), now).is_some() {
                            prop_assert!(now - opened[&number] < SESSION_LIFE);
                        }
                    }
                    Step::Wait(seconds) => now += Duration::from_secs(seconds.into()),
                }
                prop_assert!(sessions.tokens.len() <= TOKENS_MAX);
                prop_assert!(sessions.open.len() <= SESSIONS_MAX);
                prop_assert!(sessions.failures.len() <= FAILURES_MAX);
            }
        }
    }
}
