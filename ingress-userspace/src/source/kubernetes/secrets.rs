//! Reads exactly the Secrets that are named, and reads each again when it has changed.
//!
//! What changes is told by a watch of metadata, which carries no contents. The alternatives were
//! a watch for each Secret (2,000 connections for 2,000 certificates: kube's client speaks
//! HTTP/1.1) and a watch of all of type `kubernetes.io/tls` (contents nobody asked for).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use tracing::warn;

use super::store::Key;
use super::strip;
use super::watch::describe;

/// The Secrets that were read, and the reads under way.
pub(super) struct Secrets {
    client: Client,
    read: BTreeMap<Key, Read>,
    under_way: BTreeSet<Key>,
    /// Bounded by [`READS_MAX`].
    reads: FuturesUnordered<BoxFuture<'static, (Key, Outcome)>>,
}

/// One Secret as it was read last.
struct Read {
    /// The version that the read was made for.
    version: Arc<Box<str>>,
    secret: Option<Arc<Secret>>,
}

struct Outcome {
    version: Arc<Box<str>>,
    result: kube::Result<Option<Secret>>,
}

impl Secrets {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            read: BTreeMap::new(),
            under_way: BTreeSet::new(),
            reads: FuturesUnordered::new(),
        }
    }

    /// Starts reading what is named, exists in a version not yet read, and fits into the bound;
    /// forgets what is no longer named or no longer exists.
    ///
    /// `existing` gives the version of a Secret that exists.
    pub(super) fn want(
        &mut self,
        named: &BTreeSet<Key>,
        existing: impl Fn(&Key) -> Option<Arc<Box<str>>>,
    ) {
        self.read
            .retain(|key, _| named.contains(key) && existing(key).is_some());
        for key in named {
            if self.reads.len() >= READS_MAX {
                return;
            }
            let Some(version) = existing(key) else {
                continue;
            };
            let is_known = self
                .read
                .get(key)
                .is_some_and(|read| read.version == version);
            if !is_known && self.under_way.insert(key.clone()) {
                self.reads.push(self.fetch(key.clone(), version));
            }
        }
    }

    fn fetch(&self, key: Key, version: Arc<Box<str>>) -> BoxFuture<'static, (Key, Outcome)> {
        let api = Api::<Secret>::namespaced(self.client.clone(), &key.0);
        Box::pin(async move {
            let result = api.get_opt(&key.1).await;
            if result.is_err() {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            (key, Outcome { version, result })
        })
    }

    /// Waits for the next read to end; forever while there is none.
    pub(super) async fn next(&mut self) {
        let Some((key, Outcome { version, result })) = self.reads.next().await else {
            return std::future::pending().await;
        };
        self.under_way.remove(&key);
        match result {
            Ok(secret) => {
                let secret = secret.map(|secret| Arc::new(strip::secret(secret)));
                self.read.insert(key, Read { version, secret });
            }
            // `want` asks again: what was read before stays until then.
            Err(error) => warn!(
                secret = format!("{}/{}", key.0, key.1),
                error = describe(&error),
                "a Secret can't be read; trying again"
            ),
        }
    }

    /// Whether every named Secret that exists has been read at least once.
    pub(super) fn are_read(
        &self,
        named: &BTreeSet<Key>,
        existing: impl Fn(&Key) -> Option<Arc<Box<str>>>,
    ) -> bool {
        named
            .iter()
            .all(|key| self.read.contains_key(key) || existing(key).is_none())
    }

    /// What was read last of each.
    pub(super) fn secrets(&self) -> impl Iterator<Item = Arc<Secret>> {
        self.read.values().filter_map(|read| read.secret.clone())
    }
}

/// Reads at one time.
const READS_MAX: usize = 16;
const RETRY_PAUSE: std::time::Duration = std::time::Duration::from_secs(1);
