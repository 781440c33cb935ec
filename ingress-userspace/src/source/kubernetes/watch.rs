//! One watch: a list, then its changes, forever, into a store.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Config, DefaultBackoff, InitialListStrategy};
use kube::runtime::{WatchStreamExt as _, watcher as watch};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::lenient::Lenient;
use super::store::Store;

/// A store that its watch writes and the source reads, both on the control runtime.
pub(super) type SharedStore<T> = Arc<Mutex<Store<T>>>;

/// Something happened to a watch.
#[derive(Debug)]
pub(super) struct Notice {
    /// Plural name of what is watched, and its namespace if it has one.
    pub(super) watch: Arc<str>,
    /// Why the watch fails just now; `None` when its store has news.
    pub(super) error: Option<String>,
}

/// Locks a store; a panic elsewhere leaves it as consistent as it was.
pub(super) fn lock<T>(store: &SharedStore<T>) -> std::sync::MutexGuard<'_, Store<T>> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Follows all objects that `api` and `selection` name, from a first list on, and recovers from
/// every error with growing pauses. Stores what `keep` makes of an object. Yields after each event.
///
/// Lists are streamed (Kubernetes 1.27 and newer) unless the server refuses that, which it says
/// with 400 or 422; then they are read in pages.
pub(super) fn follow<K, T>(
    watch: Arc<str>,
    api: Api<Lenient<K>>,
    selection: Config,
    keep: fn(K) -> T,
) -> (SharedStore<T>, BoxStream<'static, Notice>)
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    T: Send + Sync + 'static,
{
    let store = SharedStore::<T>::default();
    let writer = Arc::clone(&store);
    let mut selection = selection.timeout(WATCH_SECONDS);
    selection.initial_list_strategy = InitialListStrategy::StreamingList;
    let opened = open(api.clone(), selection.clone());
    let events = stream::unfold(
        (opened, selection, api),
        |(mut events, mut selection, api)| async move {
            let event = events.next().await?;
            let is_streaming =
                selection.initial_list_strategy == InitialListStrategy::StreamingList;
            if is_streaming && event.as_ref().is_err_and(is_refusal) {
                selection.initial_list_strategy = InitialListStrategy::ListWatch;
                events = open(api.clone(), selection.clone());
            }
            Some((event, (events, selection, api)))
        },
    );
    let notices = events.map(move |event| Notice {
        watch: Arc::clone(&watch),
        error: match event {
            Ok(event) => {
                lock(&writer).apply(event, keep);
                None
            }
            Err(error) => Some(describe(&error)),
        },
    });
    (store, notices.boxed())
}

type Events<K> = BoxStream<'static, watcher::Result<watcher::Event<Lenient<K>>>>;

fn open<K>(api: Api<Lenient<K>>, selection: Config) -> Events<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watch(api, selection).backoff(Pauses::default()).boxed()
}

/// Whether the server does not stream lists.
fn is_refusal(error: &watcher::Error) -> bool {
    let status = match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchError(status) => status,
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => return false,
    };
    matches!(status.code, 400 | 422)
}

/// An error with its causes, in one line.
pub(super) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let reason = error.to_string();
        if !text.contains(&reason) {
            text.push_str(": ");
            text.push_str(&reason);
        }
        cause = error.source();
    }
    text
}

/// The library's growing pauses with jitter, bounded: an ingress that waits half a minute after
/// the API server is back serves endpoints that are gone.
#[derive(Default)]
struct Pauses(DefaultBackoff);

impl Iterator for Pauses {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.next().unwrap_or(PAUSE_MAX).min(PAUSE_MAX))
    }
}

impl Backoff for Pauses {
    fn reset(&mut self) {
        self.0.reset();
    }
}

const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The server ends a watch after this long and the library opens it again where it was. A
/// connection that died without a word is noticed 5 s later.
const WATCH_SECONDS: u32 = 60;
