//! Requests that an operator watches as they end (`sluice tail`).
//!
//! While there is no watcher, a request costs one relaxed load. With one, each worker puts the
//! requests that fit into a queue of its own for each watcher, and never wakes anybody: the watcher
//! looks several times a second. A queue that is full costs its watcher lines, which are counted, and
//! no request any time.
//!
//! Invariant: query strings and header fields are not copied, because they carry secrets.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::header::HOST;
use http::{HeaderValue, Method, Request};
use ingress_core::tail::{EndedRequest, TailFilter};

use crate::proxy::observe::metrics::record::{ClientInfo, Outcome};
use crate::proxy::runtime::transport::{Downstream, Scheme};

/// The watchers of all workers' requests.
#[derive(Clone, Debug, Default)]
pub struct Tail(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// How many workers have a queue for each watcher.
    workers: usize,
    /// Whether there is a watcher. Without one, a request reads this flag only.
    is_watched: AtomicBool,
    watchers: ArcSwap<Vec<Arc<Watcher>>>,
    /// Locked while a watcher comes or goes.
    change: Mutex<()>,
}

/// One watcher, as workers see it.
#[derive(Debug)]
struct Watcher {
    filter: TailFilter,
    /// By the numbers of workers.
    queues: Box<[SyncSender<Arc<TailedRequest>>]>,
    /// Requests that had no room in a queue.
    dropped: AtomicU64,
}

/// A request that has ended, for a watcher.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TailedRequest {
    /// When it ended.
    pub ended: Instant,
    /// From its head to the end of its response.
    pub took: Duration,
    /// The client's address.
    pub client: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: &'static str,
    /// The method.
    pub method: Method,
    /// The host that the client asked for, without port.
    pub host: String,
    /// The path without query, of at most 1,024 bytes.
    pub path: String,
    /// The status that the client got; 499 if it left before.
    pub status: u16,
    /// Bytes of the request, head and body.
    pub received: u64,
    /// Bytes of the response, head and body.
    pub sent: u64,
    /// Namespace and name of the Ingress; empty where no rule matched.
    pub ingress: (Arc<str>, Arc<str>),
    /// Name of the Service; empty where no endpoint is asked.
    pub service: Arc<str>,
    /// The endpoint that was tried last.
    pub endpoint: Option<SocketAddr>,
    /// Endpoints that were tried.
    pub attempts: usize,
}

/// The number of watchers has reached its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{WATCHERS_MAX} watchers already follow the requests; end one of them first")]
pub struct TooManyWatchers;

impl Tail {
    /// Makes room for the queues of this number of workers.
    pub fn new(workers: usize) -> Self {
        Self(Arc::new(Shared {
            workers,
            ..Shared::default()
        }))
    }

    /// Begins to watch the requests that begin from now on.
    ///
    /// # Errors
    ///
    /// [`TooManyWatchers`] if there are as many as there may be.
    pub fn watch(&self, filter: TailFilter) -> Result<TailReader, TooManyWatchers> {
        let shared = &self.0;
        let _changing = shared.lock();
        let mut watchers = (**shared.watchers.load()).clone();
        if watchers.len() >= WATCHERS_MAX {
            return Err(TooManyWatchers);
        }
        let queues = (0..shared.workers).map(|_| sync_channel(QUEUE_REQUESTS_MAX));
        let (senders, queues): (Vec<_>, Vec<_>) = queues.unzip();
        let watcher = Arc::new(Watcher {
            filter,
            queues: senders.into(),
            dropped: AtomicU64::new(0),
        });
        watchers.push(Arc::clone(&watcher));
        shared.watchers.store(Arc::new(watchers));
        shared.is_watched.store(true, Ordering::Relaxed);
        Ok(TailReader {
            tail: self.clone(),
            watcher,
            queues,
        })
    }

    #[inline]
    fn is_watched(&self) -> bool {
        self.0.is_watched.load(Ordering::Relaxed)
    }

    fn leave(&self, watcher: &Arc<Watcher>) {
        let shared = &self.0;
        let _changing = shared.lock();
        let mut watchers = (**shared.watchers.load()).clone();
        watchers.retain(|one| !Arc::ptr_eq(one, watcher));
        shared
            .is_watched
            .store(!watchers.is_empty(), Ordering::Relaxed);
        shared.watchers.store(Arc::new(watchers));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The requests of one watcher. Dropping it ends the watch.
#[derive(Debug)]
pub struct TailReader {
    tail: Tail,
    watcher: Arc<Watcher>,
    queues: Vec<Receiver<Arc<TailedRequest>>>,
}

impl TailReader {
    /// Takes up to `most` waiting requests, in the order in which they ended, and the number of requests
    /// that were dropped since the last call.
    pub fn take(&self, most: usize) -> (Vec<Arc<TailedRequest>>, u64) {
        let mut taken = Vec::new();
        let share = most.div_ceil(self.queues.len().max(1));
        for queue in &self.queues {
            taken.extend(queue.try_iter().take(share));
        }
        taken.sort_by_key(|request| request.ended);
        (taken, self.watcher.dropped.swap(0, Ordering::Relaxed))
    }
}

impl Drop for TailReader {
    fn drop(&mut self) {
        self.tail.leave(&self.watcher);
    }
}

/// The part of a request's head that watchers see.
#[derive(Debug)]
pub(crate) struct TailedHead {
    client: HeaderValue,
    scheme: Scheme,
    downstream: Downstream,
    host: String,
    path: String,
}

impl TailedHead {
    /// Copies the head if there is a watcher.
    #[inline]
    pub(crate) fn of<B>(
        tail: &Tail,
        client: &ClientInfo<'_>,
        request: &Request<B>,
    ) -> Option<Box<Self>> {
        if !tail.is_watched() {
            return None;
        }
        Some(Self::copy(client, request))
    }

    #[cold]
    #[expect(clippy::unnecessary_box_returns, reason = "a record holds the pointer")]
    fn copy<B>(client: &ClientInfo<'_>, request: &Request<B>) -> Box<Self> {
        let uri = request.uri();
        let field = request.headers().get(HOST).map(HeaderValue::as_bytes);
        let authority = match uri.authority() {
            Some(authority) => authority.as_str().as_bytes(),
            None => field.unwrap_or_default(),
        };
        let host = without_port(&String::from_utf8_lossy(cut(authority))).to_owned();
        let path = cut(uri.path().as_bytes());
        Box::new(Self {
            client: client.address.clone(),
            scheme: client.scheme,
            downstream: client.downstream,
            host,
            path: String::from_utf8_lossy(path).into_owned(),
        })
    }

    /// Puts the request that has ended into the queues of the watchers that it fits.
    #[cold]
    pub(crate) fn push(&self, tail: &Tail, worker: usize, outcome: &Outcome<'_>) {
        let ended = EndedRequest {
            status: outcome.status,
            host: &self.host,
            path: &self.path,
            method: outcome.method.as_str(),
            took: outcome.took,
        };
        let mut request: Option<Arc<TailedRequest>> = None;
        for watcher in tail.0.watchers.load().iter() {
            if !watcher.filter.matches(&ended) {
                continue;
            }
            let request = request.get_or_insert_with(|| Arc::new(self.request(outcome)));
            let queue = watcher.queues.get(worker);
            let sent = queue.is_some_and(|queue| queue.try_send(Arc::clone(request)).is_ok());
            if !sent {
                watcher.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn request(&self, outcome: &Outcome<'_>) -> TailedRequest {
        let key = &outcome.labels.key;
        TailedRequest {
            ended: outcome.ended,
            took: outcome.took,
            client: String::from_utf8_lossy(self.client.as_bytes()).into_owned(),
            scheme: match self.scheme {
                Scheme::Http => "http",
                Scheme::Https => "https",
            },
            protocol: match self.downstream {
                Downstream::Http10 => "HTTP/1.0",
                Downstream::Http11 => "HTTP/1.1",
                Downstream::Http2 => "HTTP/2.0",
            },
            method: outcome.method.clone(),
            host: self.host.clone(),
            path: self.path.clone(),
            status: outcome.status,
            received: outcome.received,
            sent: outcome.sent,
            ingress: (Arc::clone(&key.namespace), Arc::clone(&key.ingress)),
            service: Arc::clone(&key.service),
            endpoint: outcome.last.map(|last| last.endpoint),
            attempts: outcome.failed.len() + usize::from(outcome.last.is_some()),
        }
    }
}

fn cut(text: &[u8]) -> &[u8] {
    &text[..text.len().min(TEXT_BYTES_MAX)]
}

/// An authority without user and port; an IPv6 address keeps its brackets.
fn without_port(authority: &str) -> &str {
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    }
}

/// Watchers at one time.
const WATCHERS_MAX: usize = 4;
/// Requests that wait for one watcher on one worker: 3 MiB with the longest paths.
const QUEUE_REQUESTS_MAX: usize = 1024;
/// Bytes of a host or path that are shown.
const TEXT_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watchers_are_few_and_their_places_are_free_again() {
        let tail = Tail::new(2);
        assert!(!tail.is_watched());
        let watch = || tail.watch(TailFilter::default());
        let readers: Vec<_> = (0..WATCHERS_MAX).map(|_| watch().unwrap()).collect();
        assert!(tail.is_watched());
        assert_eq!(watch().unwrap_err(), TooManyWatchers);
        drop(readers);
        assert!(!tail.is_watched());
        watch().unwrap();
    }

    #[test]
    fn users_and_ports_are_no_part_of_a_host() {
        for (authority, host) in [
            ("one.test:80", "one.test"),
            ("user:secret@one.test", "one.test"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(authority), host);
        }
    }
}
