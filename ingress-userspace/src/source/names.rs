//! Addresses of external names: looked up when a Service asks for one, and again when their time
//! to live is over.
//!
//! There are as many as the translation asks for, which bounds them.
//!
//! A name server that does not answer takes nothing away: addresses stay until it says otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use hickory_resolver::TokioResolver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

/// Addresses by name, sorted; an empty list for a name that has none.
pub type Addresses = BTreeMap<Arc<str>, Vec<IpAddr>>;

/// Looks up the names that `wanted` names and tells their addresses through `found`, until either
/// end is gone. Names are absolute: search domains of this machine have no say.
pub async fn run(wanted: watch::Receiver<BTreeSet<Arc<str>>>, found: watch::Sender<Addresses>) {
    let resolver = hickory_resolver::Resolver::builder_tokio()
        .and_then(hickory_resolver::ResolverBuilder::build);
    match resolver {
        Ok(resolver) => Names::new(resolver).run(wanted, found).await,
        Err(error) => warn!(%error, "cannot resolve external names: no resolver configuration"),
    }
}

struct Names {
    resolver: TokioResolver,
    known: BTreeMap<Arc<str>, Known>,
    /// Bounded by [`LOOKUPS_MAX`].
    lookups: FuturesUnordered<BoxFuture<'static, (Arc<str>, Outcome)>>,
}

#[derive(Default)]
struct Known {
    /// `None` before the first answer.
    addresses: Option<Vec<IpAddr>>,
    is_asked: bool,
    /// When to ask again.
    due: Option<Instant>,
}

enum Outcome {
    /// What the name server said, and for how long it holds.
    Said(Vec<IpAddr>, Duration),
    /// Nothing that can be relied on.
    Silence,
}

impl Names {
    fn new(resolver: TokioResolver) -> Self {
        Self {
            resolver,
            known: BTreeMap::new(),
            lookups: FuturesUnordered::new(),
        }
    }

    async fn run(
        mut self,
        mut wanted: watch::Receiver<BTreeSet<Arc<str>>>,
        found: watch::Sender<Addresses>,
    ) {
        loop {
            self.ask_what_is_due();
            let next = self.known.values().filter(|known| !known.is_asked);
            let next = next.filter_map(|known| known.due).min();
            let has_room = self.lookups.len() < LOOKUPS_MAX;
            tokio::select! {
                changed = wanted.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let names = wanted.borrow_and_update().clone();
                    self.keep(&names);
                }
                Some((name, outcome)) = self.lookups.next() => self.note(&name, outcome),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && has_room => {}
                () = found.closed() => return,
            }
            found.send_if_modified(|told| {
                let now = self.addresses();
                let is_news = *told != now;
                *told = now;
                is_news
            });
        }
    }

    fn keep(&mut self, wanted: &BTreeSet<Arc<str>>) {
        self.known.retain(|name, _| wanted.contains(name));
        for name in wanted {
            let known = self.known.entry(Arc::clone(name)).or_default();
            known.due.get_or_insert_with(Instant::now);
        }
    }

    fn ask_what_is_due(&mut self) {
        let now = Instant::now();
        for (name, known) in &mut self.known {
            let is_due = known.due.is_some_and(|due| due <= now);
            if known.is_asked || !is_due {
                continue;
            }
            if self.lookups.len() >= LOOKUPS_MAX {
                return;
            }
            known.is_asked = true;
            let lookup = look_up(self.resolver.clone(), Arc::clone(name));
            self.lookups.push(Box::pin(lookup));
        }
    }

    fn note(&mut self, name: &str, outcome: Outcome) {
        let Some(known) = self.known.get_mut(name) else {
            return;
        };
        known.is_asked = false;
        let pause = match outcome {
            Outcome::Said(addresses, ttl) => {
                debug!(name, ?addresses, ?ttl, "looked up");
                known.addresses = Some(addresses);
                ttl.clamp(TTL_MIN, TTL_MAX)
            }
            Outcome::Silence => RETRY_PAUSE,
        };
        known.due = Some(Instant::now() + pause);
    }

    fn addresses(&self) -> Addresses {
        let answered = self.known.iter();
        let answered =
            answered.filter_map(|(name, known)| Some((Arc::clone(name), known.addresses.clone()?)));
        answered.collect()
    }
}

async fn look_up(resolver: TokioResolver, name: Arc<str>) -> (Arc<str>, Outcome) {
    let outcome = match resolver.lookup_ip(format!("{name}.")).await {
        Ok(answer) => {
            let mut addresses: Vec<_> = answer.iter().collect();
            addresses.sort_unstable();
            addresses.dedup();
            let now = std::time::Instant::now();
            Outcome::Said(
                addresses,
                answer.valid_until().saturating_duration_since(now),
            )
        }
        Err(error) if error.is_no_records_found() => Outcome::Said(Vec::new(), NEGATIVE_TTL),
        Err(error) => {
            debug!(%name, %error, "the name can't be looked up; trying again");
            Outcome::Silence
        }
    };
    (name, outcome)
}

/// Lookups at one time.
const LOOKUPS_MAX: usize = 16;
/// A shorter time to live would be a load for the name server.
const TTL_MIN: Duration = Duration::from_secs(1);
const TTL_MAX: Duration = Duration::from_hours(1);
/// How long it holds that a name has no address.
const NEGATIVE_TTL: Duration = Duration::from_secs(5);
const RETRY_PAUSE: Duration = Duration::from_secs(5);
