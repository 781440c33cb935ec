//! The keys of issuers that are named by URL: fetched when they are needed, kept, and fetched again.
//!
//! All workers share an issuer. A request reads its keys without a lock; at most one fetch is under
//! way, and fetches have pauses between them whatever tokens clients send.
//!
//! Invariant: without keys no token passes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use thiserror::Error;
use tokio::sync::watch;

use super::keys::KeySet;
use crate::proxy::upstream::service_client::{ServiceClient, ServiceError};

/// The issuers that tokens are verified for, by the URLs of their keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Issuers(Arc<Mutex<HashMap<Arc<str>, Arc<Issuer>>>>);

impl Issuers {
    /// The issuer whose keys are at a URL; `None` where there are as many as there may be.
    pub(super) fn at(&self, url: &Arc<str>) -> Option<Arc<Issuer>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(url) {
            return Some(Arc::clone(known));
        }
        if all.len() >= ISSUERS_MAX {
            // Those that no worker knows any more.
            all.retain(|_, issuer| Arc::strong_count(issuer) > 1);
        }
        if all.len() >= ISSUERS_MAX {
            return None;
        }
        let issuer = Arc::new(Issuer::new(url));
        all.insert(Arc::clone(url), Arc::clone(&issuer));
        Some(issuer)
    }
}

/// One issuer.
#[derive(Debug)]
pub(super) struct Issuer {
    url: Arc<str>,
    current: ArcSwapOption<Fetched>,
    is_fetching: AtomicBool,
    /// Milliseconds from `begun` to the last fetch; 0: there was none.
    fetched_at: AtomicU64,
    begun: Instant,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

/// Keys, and for how long they are good.
#[derive(Debug)]
struct Fetched {
    keys: Arc<KeySet>,
    /// From then on they are fetched again, and used meanwhile.
    refresh_at: Instant,
    /// From then on they are not used.
    until: Instant,
}

/// Why there are no keys.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the URL cannot be asked")]
    Url(#[from] http::Error),
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the answer is not a set of keys")]
    Set(#[from] serde_json::Error),
    #[error("the set has no key that a token can be verified with")]
    Empty,
}

impl Issuer {
    fn new(url: &Arc<str>) -> Self {
        Self {
            url: Arc::clone(url),
            current: ArcSwapOption::empty(),
            is_fetching: AtomicBool::new(false),
            fetched_at: AtomicU64::new(0),
            begun: Instant::now(),
            ended: watch::Sender::new(0),
        }
    }

    /// The keys that are known. Starts to fetch them again if they are due, and does not wait for that.
    pub(super) fn keys_at_hand(self: &Arc<Self>, services: &ServiceClient) -> Option<Arc<KeySet>> {
        let now = Instant::now();
        let known = self.known(now)?;
        if now >= known.refresh_at {
            self.fetch(services, REFRESH_PAUSE);
        }
        Some(Arc::clone(&known.keys))
    }

    /// The keys, which are fetched first if there are none, or if `suffices` says that they are too
    /// old. `None`: there are none.
    pub(super) async fn keys(
        self: &Arc<Self>,
        services: &ServiceClient,
        suffices: impl Fn(&KeySet) -> bool,
    ) -> Option<Arc<KeySet>> {
        let pause = match self.keys_at_hand(services) {
            Some(keys) if suffices(&keys) => return Some(keys),
            Some(_) => UNKNOWN_KEY_PAUSE,
            None => FAILURE_PAUSE,
        };
        let mut ended = self.ended.subscribe();
        if self.fetch(services, pause) {
            // In time or not: what there is now counts.
            let _ = tokio::time::timeout(WAIT, ended.changed()).await;
        }
        let known = self.known(Instant::now());
        known.map(|known| Arc::clone(&known.keys))
    }

    fn known(&self, now: Instant) -> Option<Arc<Fetched>> {
        let current = self.current.load_full();
        current.filter(|current| now < current.until)
    }

    /// Begins a fetch, unless the last one was less than a pause ago. Returns whether one is under way.
    fn fetch(self: &Arc<Self>, services: &ServiceClient, pause: Duration) -> bool {
        let now = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let now = now.max(1);
        let last = self.fetched_at.load(Ordering::Acquire);
        let pause = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        let is_early = last != 0 && now < last.saturating_add(pause);
        if is_early || self.is_fetching.swap(true, Ordering::AcqRel) {
            return self.is_fetching.load(Ordering::Acquire);
        }
        self.fetched_at.store(now, Ordering::Release);
        let fetching = Fetching(Arc::clone(self));
        let services = services.clone();
        // A task of its own: the client may go before the answer comes.
        tokio::task::spawn_local(async move {
            let issuer = &fetching.0;
            match fetch(&issuer.url, &services).await {
                Ok(fetched) => issuer.current.store(Some(Arc::new(fetched))),
                Err(error) => tracing::warn!(
                    url = &*issuer.url,
                    error = &error as &dyn std::error::Error,
                    "failed to fetch the keys of tokens"
                ),
            }
        });
        true
    }
}

/// A fetch that is under way until this is dropped.
struct Fetching(Arc<Issuer>);

impl Drop for Fetching {
    fn drop(&mut self) {
        self.0.is_fetching.store(false, Ordering::Release);
        self.0.ended.send_modify(|count| *count += 1);
    }
}

async fn fetch(url: &str, services: &ServiceClient) -> Result<Fetched, FetchError> {
    let accepted = HeaderValue::from_static("application/jwk-set+json, application/json");
    let request = Request::get(url).header(ACCEPT, accepted);
    let response: Response<Bytes> = services
        .fetch(request.body(Full::default())?, SET_BYTES_MAX)
        .await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let keys = KeySet::parse(response.body())?;
    if keys.is_empty() {
        return Err(FetchError::Empty);
    }
    let now = Instant::now();
    Ok(Fetched {
        keys: Arc::new(keys),
        refresh_at: now + lifetime(response.headers()),
        until: now + LIFETIME_MAX,
    })
}

/// For how long a set is not fetched again (RFC 9111 §5.2.2.1).
fn lifetime(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let seconds = directives.find_map(|one| one.trim().strip_prefix("max-age=")?.parse().ok());
    let lifetime = seconds.map_or(LIFETIME, Duration::from_secs);
    lifetime.clamp(LIFETIME_MIN, LIFETIME_MAX)
}

/// URLs whose keys are kept.
const ISSUERS_MAX: usize = 1024;
const SET_BYTES_MAX: usize = 256 << 10;
/// For how long a set is not fetched again, where its answer does not say.
const LIFETIME: Duration = Duration::from_mins(10);
const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// For how long a set is used while its URL cannot be reached.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// From a fetch to the next, of a set that is due.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);
/// From a fetch to the next, because a token names a key that is not in the set.
const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(5);
/// From a fetch to the next, while there are no keys.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for a fetch.
const WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_kept_as_long_as_their_answers_say_within_bounds() {
        let of = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(value));
            lifetime(&headers).as_secs()
        };
        assert_eq!(of("public, max-age=300"), 300);
        assert_eq!(of("max-age=0"), 60);
        assert_eq!(of("max-age=99999999"), 24 * 3600);
        assert_eq!(of("no-store"), 600);
        assert_eq!(lifetime(&HeaderMap::new()), LIFETIME);
    }
}
