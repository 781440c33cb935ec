//! Documents that are named by URL, such as the keys of an issuer: fetched when they are needed, kept, and fetched
//! again.
//!
//! All workers share a document. A request reads it without a lock; at most one fetch is under
//! way, and fetches have pauses between them whatever clients send.
//!
//! Invariant: a document that is not known lets no client in.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
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

use crate::proxy::upstream::service_client::{ServiceClient, ServiceError};

/// What a document says.
pub(super) trait Document: fmt::Debug + Send + Sync + Sized + 'static {
    /// What it is, for the log.
    const NAME: &'static str;
    /// Media types that it may have.
    const MEDIA_TYPES: &'static str;
    /// Why it cannot be used.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Reads it.
    ///
    /// # Errors
    ///
    /// An error for a document that cannot be used.
    fn read(text: &[u8]) -> Result<Self, Self::Error>;
}

/// The documents of one kind that all workers share, by their URLs.
#[derive(Debug)]
pub(super) struct Documents<T>(Arc<Mutex<ByUrl<T>>>);

type ByUrl<T> = HashMap<Arc<str>, Arc<Remote<T>>>;

impl<T> Default for Documents<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Documents<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Document> Documents<T> {
    /// The document at a URL; `None` where there are as many as there may be.
    fn at(&self, url: &Arc<str>) -> Option<Arc<Remote<T>>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(url) {
            return Some(Arc::clone(known));
        }
        if all.len() >= DOCUMENTS_MAX {
            // Those that no worker knows any more.
            all.retain(|_, remote| Arc::strong_count(remote) > 1);
        }
        if all.len() >= DOCUMENTS_MAX {
            return None;
        }
        let remote = Arc::new(Remote::new(url));
        all.insert(Arc::clone(url), Arc::clone(&remote));
        Some(remote)
    }
}

/// The documents that one worker knows, so that it takes the lock of all once for each.
pub(super) struct KnownDocuments<T> {
    shared: Documents<T>,
    known: RefCell<ByUrl<T>>,
}

impl<T: Document> KnownDocuments<T> {
    pub(super) fn new(shared: Documents<T>) -> Self {
        Self {
            shared,
            known: RefCell::default(),
        }
    }

    /// The document at a URL; `None` where there are as many as there may be.
    pub(super) fn at(&self, url: &Arc<str>) -> Option<Arc<Remote<T>>> {
        let mut known = self.known.borrow_mut();
        if let Some(remote) = known.get(url) {
            return Some(Arc::clone(remote));
        }
        let remote = self.shared.at(url)?;
        if known.len() >= DOCUMENTS_MAX {
            known.clear();
        }
        known.insert(Arc::clone(url), Arc::clone(&remote));
        Some(remote)
    }
}

/// One document.
#[derive(Debug)]
pub(super) struct Remote<T> {
    url: Arc<str>,
    current: ArcSwapOption<Fetched<T>>,
    is_fetching: AtomicBool,
    /// Milliseconds from `begun` to the last fetch; 0: there was none.
    fetched_at: AtomicU64,
    begun: Instant,
    /// Counts the fetches that have ended.
    ended: watch::Sender<u64>,
}

/// What a document said, and for how long that is good.
#[derive(Debug)]
struct Fetched<T> {
    content: Arc<T>,
    /// From then on it is fetched again, and used meanwhile.
    refresh_at: Instant,
    /// From then on it is not used.
    until: Instant,
}

/// Why there is no document.
#[derive(Debug, Error)]
enum FetchError<E> {
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error("the URL cannot be asked")]
    Url(#[from] http::Error),
    #[error("status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the answer cannot be used")]
    Content(#[source] E),
}

impl<T: Document> Remote<T> {
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

    /// What is known of it. Starts to fetch it again if that is due, and does not wait for that.
    pub(super) fn at_hand(self: &Arc<Self>, services: &ServiceClient) -> Option<Arc<T>> {
        let now = Instant::now();
        let known = self.known(now)?;
        if now >= known.refresh_at {
            self.fetch(services, REFRESH_PAUSE);
        }
        Some(Arc::clone(&known.content))
    }

    /// The document, which is fetched first if it is not known, or if `suffices` says that it is too
    /// old. `None`: there is none.
    pub(super) async fn get(
        self: &Arc<Self>,
        services: &ServiceClient,
        suffices: impl Fn(&T) -> bool,
    ) -> Option<Arc<T>> {
        let pause = match self.at_hand(services) {
            Some(content) if suffices(&content) => return Some(content),
            Some(_) => TOO_OLD_PAUSE,
            None => FAILURE_PAUSE,
        };
        let mut ended = self.ended.subscribe();
        if self.fetch(services, pause) {
            // In time or not: what there is now counts.
            let _ = tokio::time::timeout(WAIT, ended.changed()).await;
        }
        let known = self.known(Instant::now());
        known.map(|known| Arc::clone(&known.content))
    }

    fn known(&self, now: Instant) -> Option<Arc<Fetched<T>>> {
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
            let remote = &fetching.0;
            match fetch::<T>(&remote.url, &services).await {
                Ok(fetched) => remote.current.store(Some(Arc::new(fetched))),
                Err(error) => tracing::warn!(
                    url = &*remote.url,
                    error = &error as &dyn std::error::Error,
                    "failed to fetch {}",
                    T::NAME
                ),
            }
        });
        true
    }
}

/// A fetch that is under way until this is dropped.
struct Fetching<T>(Arc<Remote<T>>);

impl<T> Drop for Fetching<T> {
    fn drop(&mut self) {
        self.0.is_fetching.store(false, Ordering::Release);
        self.0.ended.send_modify(|count| *count += 1);
    }
}

async fn fetch<T: Document>(
    url: &str,
    services: &ServiceClient,
) -> Result<Fetched<T>, FetchError<T::Error>> {
    let accepted = HeaderValue::from_static(T::MEDIA_TYPES);
    let request = Request::get(url).header(ACCEPT, accepted);
    let response: Response<Bytes> = services
        .fetch(request.body(Full::default())?, DOCUMENT_BYTES_MAX)
        .await?;
    if response.status() != StatusCode::OK {
        return Err(FetchError::Status(response.status()));
    }
    let content = T::read(response.body()).map_err(FetchError::Content)?;
    let now = Instant::now();
    Ok(Fetched {
        content: Arc::new(content),
        refresh_at: now + lifetime(response.headers()),
        until: now + LIFETIME_MAX,
    })
}

/// For how long a document is not fetched again (RFC 9111 §5.2.2.1).
fn lifetime(headers: &HeaderMap) -> Duration {
    let lines = headers.get_all(CACHE_CONTROL).iter();
    let mut directives = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let seconds = directives.find_map(|one| one.trim().strip_prefix("max-age=")?.parse().ok());
    let lifetime = seconds.map_or(LIFETIME, Duration::from_secs);
    lifetime.clamp(LIFETIME_MIN, LIFETIME_MAX)
}

/// URLs whose documents of one kind are kept.
const DOCUMENTS_MAX: usize = 1024;
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// For how long a document is not fetched again, where its answer does not say.
const LIFETIME: Duration = Duration::from_mins(10);
const LIFETIME_MIN: Duration = Duration::from_mins(1);
/// For how long a document is used while its URL cannot be reached.
const LIFETIME_MAX: Duration = Duration::from_hours(24);
/// From a fetch to the next, of a document that is due.
const REFRESH_PAUSE: Duration = Duration::from_secs(10);
/// From a fetch to the next, because a document is too old: a token names a key that is not in the set.
const TOO_OLD_PAUSE: Duration = Duration::from_secs(5);
/// From a fetch to the next, while there is no document.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// How long a request waits for a fetch.
const WAIT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_kept_as_long_as_their_answers_say_within_bounds() {
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
