//! The Kubernetes API server as the source of objects.
//!
//! Every kind has a watch that fills a store; a burst of events gives one [`Observation`]. None is
//! given before all first lists are complete. While the API server is away, the stores keep what
//! they have, and the watches recover by themselves.

mod lenient;
mod secrets;
mod store;
mod strip;
mod watch;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, SelectAll};
use ingress_core::ir::ObjectRef;
use ingress_core::list::List;
use ingress_core::object;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, needs};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::runtime::watcher::Config;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::Observation;
use lenient::Lenient;
use secrets::Secrets;
use store::Key;
use watch::{Notice, SharedStore, follow, lock};

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Namespaces whose objects count; all when empty.
    pub namespaces: Vec<String>,
    /// Labels that a namespace must have for its objects to count.
    pub namespace_selector: Option<String>,
    /// Which Ingresses are ours: decides which Secrets and ConfigMaps are read.
    pub translation: Options,
    /// Whether Nodes are of interest: their addresses for the status, their zones for hints, the
    /// networks of their pods.
    pub has_nodes: bool,
    /// Services (namespace, name) that are of interest wherever they are.
    pub services: Vec<(String, String)>,
    /// Namespace and labels of the daemon's own pods, if they are of interest.
    pub pods: Option<(String, String)>,
}

/// Watches everything and sends what it sees, until the receiver is gone.
pub async fn run(client: Client, selection: Selection, sender: mpsc::Sender<Observation>) {
    Kubernetes::new(client, selection).run(sender).await;
}

struct Kubernetes {
    client: Client,
    selection: Selection,
    notices: SelectAll<BoxStream<'static, Notice>>,
    ingresses: Vec<SharedStore<object::Ingress>>,
    services: Vec<SharedStore<object::Service>>,
    endpoint_slices: Vec<SharedStore<object::EndpointSlice>>,
    secret_versions: Vec<SharedStore<Box<str>>>,
    ingress_classes: SharedStore<IngressClass>,
    namespaces: Option<SharedStore<()>>,
    nodes: Option<SharedStore<Node>>,
    pods: Option<SharedStore<Pod>>,
    /// ConfigMaps that flags, IngressClasses and Ingresses name, each with a watch of its own; one that
    /// is no longer named is not read any more, and its watch stays: a namespace has few.
    config_maps: BTreeMap<Key, SharedStore<ConfigMap>>,
    secrets: Secrets,
    /// What was observed last, for the kinds of which nothing has changed since.
    last: Snapshot,
    /// What its Ingresses and classes name.
    named: Option<Named>,
    /// Watches that fail just now, why, and when they said so last.
    failing: BTreeMap<Arc<str>, (String, Instant)>,
    /// When the oldest news came that nobody was told yet.
    news_since: Option<Instant>,
}

/// Objects that are read because others name them.
struct Named {
    secrets: BTreeSet<Key>,
    config_maps: BTreeSet<Key>,
}

impl Kubernetes {
    fn new(client: Client, selection: Selection) -> Self {
        let mut notices = SelectAll::new();
        let all = Config::default();
        let ingresses = namespaced::<Ingress, _>(&client, &selection, &mut notices, From::from);
        let services = services(&client, &selection, &mut notices);
        let endpoint_slices =
            namespaced::<EndpointSlice, _>(&client, &selection, &mut notices, From::from);
        let mut secret_versions =
            namespaced(&client, &selection, &mut notices, strip::secret_version);
        if let Some(state) = &selection.translation.acme_state
            && !selection.namespaces.is_empty()
            && !selection
                .namespaces
                .iter()
                .any(|one| **one == *state.namespace)
        {
            let api = Api::namespaced(client.clone(), &state.namespace);
            let one = Config::default().fields(&format!("metadata.name={}", state.name));
            let scope = Some(&*state.namespace);
            let store = add(&mut notices, api, scope, one, strip::secret_version);
            secret_versions.push(store);
        }
        let cluster = Api::all(client.clone());
        let ingress_classes = add(
            &mut notices,
            cluster,
            None,
            all.clone(),
            strip::ingress_class,
        );
        let namespaces = selection.namespace_selector.as_ref().map(|labels| {
            let labelled = all.clone().labels(labels);
            let cluster = Api::all(client.clone());
            add(&mut notices, cluster, None, labelled, strip::namespace)
        });
        let nodes = selection.has_nodes.then(|| {
            let cluster = Api::all(client.clone());
            add(&mut notices, cluster, None, all.clone(), strip::node)
        });
        let pods = selection.pods.as_ref().map(|(namespace, labels)| {
            let api = Api::namespaced(client.clone(), namespace);
            let labelled = all.clone().labels(labels);
            add(&mut notices, api, Some(namespace), labelled, strip::pod)
        });
        Self {
            secrets: Secrets::new(client.clone()),
            client,
            selection,
            notices,
            ingresses,
            services,
            endpoint_slices,
            secret_versions,
            ingress_classes,
            namespaces,
            nodes,
            pods,
            config_maps: BTreeMap::new(),
            last: Snapshot::default(),
            named: None,
            failing: BTreeMap::new(),
            news_since: None,
        }
    }

    async fn run(mut self, sender: mpsc::Sender<Observation>) {
        let mut was_complete = false;
        let mut look = tokio::time::interval(LOOK);
        loop {
            let due = self.news_since.map(|since| since + PAUSE);
            let turn = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
                sender.reserve().await
            };
            tokio::select! {
                Some(notice) = self.notices.next() => self.note(notice),
                () = self.secrets.next() => self.mark(),
                _ = look.tick(), if !self.failing.is_empty() => self.forget_old_failures(),
                permit = turn => {
                    let Ok(permit) = permit else { return };
                    self.news_since = None;
                    let Some(observation) = self.observe() else { continue };
                    if !std::mem::replace(&mut was_complete, true) {
                        info!(snapshot = ?observation.snapshot, "initial lists are complete");
                    }
                    permit.send(observation);
                }
            }
        }
    }

    fn mark(&mut self) {
        self.news_since.get_or_insert_with(Instant::now);
    }

    fn note(&mut self, notice: Notice) {
        let Notice { watch, error } = notice;
        match error {
            None => {
                if self.failing.remove(&watch).is_some() {
                    info!(%watch, "watch recovered");
                }
            }
            Some(error) => {
                let failure = (error.clone(), Instant::now());
                let before = self.failing.insert(Arc::clone(&watch), failure);
                if before.is_none() {
                    warn!(%watch, error, "watch failed; the last known objects stay in force");
                } else {
                    debug!(%watch, error, "the watch still fails");
                }
            }
        }
        self.mark();
    }

    /// A watch that goes on where it was has no event to tell; that it fails no more is a sign.
    fn forget_old_failures(&mut self) {
        let before = self.failing.len();
        self.failing.retain(|watch, (_, since)| {
            let is_recent = since.elapsed() < SILENCE;
            if !is_recent {
                info!(%watch, "watch recovered");
            }
            is_recent
        });
        if self.failing.len() != before {
            self.mark();
        }
    }

    /// Everything as it is now; `None` while something has not been read for the first time.
    fn observe(&mut self) -> Option<Observation> {
        if !self.are_lists_complete() {
            return None;
        }
        let mut snapshot = self.snapshot();
        let is_known = snapshot.ingresses.is(&self.last.ingresses)
            && snapshot.ingress_classes.is(&self.last.ingress_classes);
        let known = self.named.take().filter(|_| is_known);
        let named = known.unwrap_or_else(|| {
            let needs = needs(&snapshot, &self.selection.translation);
            Named {
                secrets: keys(&needs.secrets),
                config_maps: keys(&needs.config_maps),
            }
        });
        self.watch_config_maps(&named.config_maps);
        let is_read = self.read_named(&named);
        if is_read {
            snapshot.secrets = self.last.secrets.following(self.secrets.secrets());
            let config_maps = named.config_maps.iter().filter_map(|key| {
                let store = self.config_maps.get(key).map(lock)?;
                store.get(key).cloned()
            });
            snapshot.config_maps = self.last.config_maps.following(config_maps);
        }
        self.named = Some(named);
        self.last = snapshot.clone();
        if !is_read {
            return None;
        }
        let mut observation = Observation {
            snapshot,
            ..Observation::default()
        };
        self.complain(&mut observation);
        Some(observation)
    }

    /// Reads what is named and not read yet; whether everything is.
    fn read_named(&mut self, named: &Named) -> bool {
        let versions = &self.secret_versions;
        let existing = |key: &Key| {
            versions
                .iter()
                .find_map(|store| lock(store).get(key).cloned())
        };
        self.secrets.want(&named.secrets, existing);
        // Whoever may write an Ingress may name one that cannot be read, or too many: others do not
        // wait for it.
        let is_config_map_read = |key: &Key| {
            let store = self.config_maps.get(key);
            let is_failing = || self.failing.contains_key(&*config_map_watch(key));
            store.is_none_or(|store| lock(store).is_complete() || is_failing())
        };
        self.secrets.are_read(&named.secrets, existing)
            && named.config_maps.iter().all(is_config_map_read)
    }

    fn are_lists_complete(&self) -> bool {
        fn complete<T>(stores: impl IntoIterator<Item = impl Borrow<SharedStore<T>>>) -> bool {
            let mut stores = stores.into_iter();
            stores.all(|store| lock(store.borrow()).is_complete())
        }
        complete(&self.ingresses)
            && complete(&self.services)
            && complete(&self.endpoint_slices)
            && complete(&self.secret_versions)
            && complete([&self.ingress_classes])
            && complete(&self.namespaces)
            && complete(&self.nodes)
            && complete(&self.pods)
    }

    fn snapshot(&self) -> Snapshot {
        let chosen = self.namespaces.as_ref().map(|store| {
            let store = lock(store);
            let names = store.objects().map(|((_, name), _)| Arc::clone(name));
            names.collect::<BTreeSet<Arc<str>>>()
        });
        let counts = |namespace: &str| {
            chosen
                .as_ref()
                .is_none_or(|chosen| chosen.contains(namespace))
        };
        let named = &self.selection.services;
        let has_service = |namespace: &str| {
            counts(namespace) || named.iter().any(|(known, _)| known == namespace)
        };
        let last = &self.last;
        Snapshot {
            ingresses: follow_all(&last.ingresses, &self.ingresses, counts),
            ingress_classes: follow_all(&last.ingress_classes, [&self.ingress_classes], |_| true),
            services: follow_all(&last.services, &self.services, has_service),
            endpoint_slices: follow_all(&last.endpoint_slices, &self.endpoint_slices, counts),
            nodes: follow_all(&last.nodes, &self.nodes, |_| true),
            pods: follow_all(&last.pods, &self.pods, |_| true),
            ..Snapshot::default()
        }
    }

    fn watch_config_maps(&mut self, wanted: &BTreeSet<Key>) {
        for key in wanted {
            let beside = self
                .config_maps
                .keys()
                .filter(|(namespace, _)| *namespace == key.0);
            if self.config_maps.contains_key(key) || beside.count() >= CONFIG_MAPS_OF_NAMESPACE_MAX
            {
                continue;
            }
            let api = Api::namespaced(self.client.clone(), &key.0);
            let one = Config::default().fields(&format!("metadata.name={}", key.1));
            let watch = config_map_watch(key);
            let (store, stream) = follow(watch.into(), api, one, strip::config_map);
            self.notices.push(stream);
            self.config_maps.insert(key.clone(), store);
        }
    }

    fn complain(&self, observation: &mut Observation) {
        fn extend<T>(
            observation: &mut Observation,
            stores: impl IntoIterator<Item = impl Borrow<SharedStore<T>>>,
        ) {
            for store in stores {
                let store = lock(store.borrow());
                observation.diagnostics.extend(store.diagnostics().cloned());
            }
        }
        extend(observation, &self.ingresses);
        extend(observation, &self.services);
        extend(observation, &self.endpoint_slices);
        extend(observation, [&self.ingress_classes]);
        extend(observation, self.config_maps.values());
        let problems = self.failing.iter().map(|(watch, (error, _))| {
            format!("API server: watch of {watch}: {error}; what it told stays in force")
        });
        observation.problems.extend(problems);
        let named = self.named.iter().flat_map(|named| &named.config_maps);
        let unread = named.filter(|key| !self.config_maps.contains_key(*key));
        let namespaces: BTreeSet<_> = unread.map(|(namespace, _)| namespace).collect();
        observation
            .problems
            .extend(namespaces.iter().map(|namespace| {
                format!(
                    "objects name more than {CONFIG_MAPS_OF_NAMESPACE_MAX} ConfigMaps of namespace \
                 `{namespace}`: the others are not read"
                )
            }));
    }
}

/// The name of the watch of one ConfigMap, as problems have it.
fn config_map_watch((namespace, name): &Key) -> String {
    format!("configmaps in {namespace}/{name}")
}

/// The watches of Services: of all namespaces that count, and of single Services elsewhere.
fn services(
    client: &Client,
    selection: &Selection,
    notices: &mut SelectAll<BoxStream<'static, Notice>>,
) -> Vec<SharedStore<object::Service>> {
    let mut stores = namespaced::<Service, _>(client, selection, notices, From::from);
    let namespaces = &selection.namespaces;
    for (namespace, name) in &selection.services {
        if !namespaces.is_empty() && !namespaces.contains(namespace) {
            let api = Api::<Lenient<Service>>::namespaced(client.clone(), namespace);
            let one = Config::default().fields(&format!("metadata.name={name}"));
            stores.push(add(notices, api, Some(namespace), one, From::from));
        }
    }
    stores
}

/// A watch of one kind in each namespace that counts.
fn namespaced<K, T>(
    client: &Client,
    selection: &Selection,
    notices: &mut SelectAll<BoxStream<'static, Notice>>,
    keep: fn(K) -> T,
) -> Vec<SharedStore<T>>
where
    T: Send + Sync + 'static,
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let all = Config::default();
    if selection.namespaces.is_empty() {
        let api = Api::all(client.clone());
        return vec![add(notices, api, None, all, keep)];
    }
    let of = |namespace: &String| {
        let api = Api::namespaced(client.clone(), namespace);
        add(notices, api, Some(namespace), all.clone(), keep)
    };
    selection.namespaces.iter().map(of).collect()
}

fn add<K, T>(
    notices: &mut SelectAll<BoxStream<'static, Notice>>,
    api: Api<Lenient<K>>,
    scope: Option<&str>,
    config: Config,
    keep: fn(K) -> T,
) -> SharedStore<T>
where
    T: Send + Sync + 'static,
    K: Resource<DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let kind = K::plural(&());
    let watch = match scope {
        Some(scope) => format!("{kind} in {scope}"),
        None => kind.into_owned(),
    };
    let (store, stream) = follow(watch.into(), api, config, keep);
    notices.push(stream);
    store
}

/// The objects of all these stores, after those that were in them last.
fn follow_all<T>(
    last: &List<T>,
    stores: impl IntoIterator<Item = impl Borrow<SharedStore<T>>>,
    counts: impl Fn(&str) -> bool,
) -> List<T> {
    let stores: Vec<_> = stores.into_iter().collect();
    let stores: Vec<_> = stores.iter().map(|store| lock(store.borrow())).collect();
    let objects = stores.iter().flat_map(|store| store.objects());
    let counting = objects.filter(|((namespace, _), _)| counts(namespace));
    last.following(counting.map(|(_, object)| object))
}

fn keys(objects: &BTreeSet<ObjectRef>) -> BTreeSet<Key> {
    let key = |object: &ObjectRef| (Arc::clone(&object.namespace), Arc::clone(&object.name));
    objects.iter().map(key).collect()
}

/// ConfigMaps that are read of one namespace: each takes a connection to the API server.
const CONFIG_MAPS_OF_NAMESPACE_MAX: usize = 32;
/// How often failures are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// Longer than a watch pauses between two tries.
const SILENCE: Duration = Duration::from_secs(12);
/// Events that come within this time after the first are told together.
const PAUSE: Duration = Duration::from_millis(2);
