//! Events: tells the owners of objects what became of them, each thing once.
//!
//! The name of an Event is made from what it says about which version of which object. Whoever
//! tries to tell it again, be it another pod or this one after a restart, finds that it exists.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use ingress_core::diagnostic::Diagnostic;
use ingress_core::ir::ObjectRef;
use ingress_core::list::List;
use ingress_core::object::{Ingress, Meta};
use ingress_core::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{ObjectReference, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::networking::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt as _};
use tokio::time::sleep;
use tracing::debug;

/// What to tell about one object.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    about: About,
    /// Changes when the object's owner changes it.
    generation: i64,
    is_warning: bool,
    reason: &'static str,
    note: Cow<'static, str>,
}

/// An object that something is told about. An Ingress is itself: there may be tens of thousands to
/// tell about, for minutes.
#[derive(Clone, Debug)]
enum About {
    Ingress(Arc<Ingress>),
    Other(Box<ObjectReference>),
}

impl About {
    fn reference(&self) -> Cow<'_, ObjectReference> {
        match self {
            Self::Ingress(ingress) => Cow::Owned(reference_by::<v1::Ingress>(&ingress.meta)),
            Self::Other(reference) => Cow::Borrowed(reference),
        }
    }

    fn uid(&self) -> &str {
        match self {
            Self::Ingress(ingress) => &ingress.meta.uid,
            Self::Other(reference) => reference.uid.as_deref().unwrap_or_default(),
        }
    }
}

/// What there is to tell: a Warning for each diagnostic, and Synced for each Ingress of ours that
/// has none.
pub(super) fn events(
    accepted: &[Arc<Ingress>],
    diagnostics: &[Diagnostic],
    snapshot: &Snapshot,
) -> Vec<Notice> {
    let index = Index::of(diagnostics, snapshot);
    let warnings = diagnostics.iter().filter_map(|diagnostic| {
        let (about, generation) = index.find(&diagnostic.object)?;
        Some(Notice {
            about: About::Other(Box::new(about)),
            generation,
            is_warning: true,
            reason: diagnostic.reason.as_str(),
            note: shortened(format!("{}: {}", diagnostic.field, diagnostic.message)).into(),
        })
    });
    let faulty: HashSet<(&str, &str)> = diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.object.kind == "Ingress")
        .map(|diagnostic| (&*diagnostic.object.namespace, &*diagnostic.object.name))
        .collect();
    let synced = accepted.iter().filter(|ingress| {
        let Meta {
            namespace, name, ..
        } = &ingress.meta;
        !faulty.contains(&(namespace, name))
    });
    let synced = synced.map(|ingress| Notice {
        about: About::Ingress(Arc::clone(ingress)),
        generation: ingress.meta.generation.unwrap_or(0),
        is_warning: false,
        reason: "Synced",
        note: "is served".into(),
    });
    warnings.chain(synced).collect()
}

/// Tells what was not told yet, at a bounded rate.
pub(super) struct EventRecorder {
    client: Client,
    reporter: String,
    instance: String,
    /// What is told by Events that exist, as [`hash`] names it.
    told: HashSet<u64>,
}

impl EventRecorder {
    /// One that speaks as `instance` (the pod) of `reporter` (the controller).
    pub(super) fn new(client: Client, reporter: String, instance: String) -> Self {
        Self {
            client,
            reporter,
            instance,
            told: HashSet::new(),
        }
    }

    /// Tells what is new of `events`, at most [`RATE`] a second; gives how many could not be
    /// told and have to be tried again. What is no longer in `events` is forgotten.
    pub(super) async fn tell(&mut self, events: &[Notice]) -> usize {
        let current: HashSet<u64> = events.iter().map(hash).collect();
        self.told.retain(|told| current.contains(told));
        drop(current);
        let mut failed = 0;
        for notice in events {
            let hash = hash(notice);
            if self.told.contains(&hash) {
                continue;
            }
            match self.create(hash, notice).await {
                Ok(()) => {
                    self.told.insert(hash);
                }
                Err(error) => {
                    failed += 1;
                    debug!(%error, "an Event can't be written");
                }
            }
            sleep(Duration::from_secs(1) / RATE).await;
        }
        failed
    }

    async fn create(&self, hash: u64, notice: &Notice) -> kube::Result<()> {
        let about = notice.about.reference().into_owned();
        // Of cluster-scoped objects in `default`, where kubectl looks for them.
        let namespace = about.namespace.clone();
        let namespace = namespace.unwrap_or_else(|| "default".to_owned());
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name(&about, hash)),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some("Sync".to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(notice.note.clone().into_owned()),
            reason: Some(notice.reason.to_owned()),
            regarding: Some(about),
            reporting_controller: Some(self.reporter.clone()),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(
                if notice.is_warning {
                    "Warning"
                } else {
                    "Normal"
                }
                .to_owned(),
            ),
            ..Event::default()
        };
        let events = Api::<Event>::namespaced(self.client.clone(), &namespace);
        match events.create(&PostParams::default(), &event).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
            Err(kube::Error::Api(status)) if is_namespace_ending(&status) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Whether the object's namespace is going away, and the object with it.
fn is_namespace_ending(status: &Status) -> bool {
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let is_ending = causes
        .into_iter()
        .any(|cause| cause.reason == "NamespaceTerminating");
    is_ending || status.is_not_found()
}

/// Finds the objects that diagnostics are about, in one walk over a snapshot.
struct Index<'a> {
    wanted: HashSet<&'a ObjectRef>,
    found: HashMap<ObjectRef, (ObjectReference, i64)>,
}

impl<'a> Index<'a> {
    fn of(diagnostics: &'a [Diagnostic], snapshot: &Snapshot) -> Self {
        let mut index = Self {
            wanted: diagnostics
                .iter()
                .map(|diagnostic| &diagnostic.object)
                .collect(),
            found: HashMap::new(),
        };
        let ingresses = snapshot.ingresses.iter().map(|object| &object.meta);
        index.walk_reduced::<v1::Ingress>("Ingress", ingresses);
        let services = snapshot.services.iter().map(|object| &object.meta);
        index.walk_reduced::<Service>("Service", services);
        let slices = snapshot.endpoint_slices.iter().map(|object| &object.meta);
        index.walk_reduced::<EndpointSlice>("EndpointSlice", slices);
        index.walk("IngressClass", &snapshot.ingress_classes);
        index.walk("Secret", &snapshot.secrets);
        index.walk("ConfigMap", &snapshot.config_maps);
        index
    }

    fn walk<K: Resource<DynamicType = ()>>(&mut self, kind: &'static str, objects: &List<K>) {
        if !self.wanted.iter().any(|wanted| wanted.kind == kind) {
            return;
        }
        for object in objects {
            let meta = object.meta();
            let reference_to = ObjectRef {
                kind,
                namespace: meta.namespace.as_deref().unwrap_or_default().into(),
                name: meta.name.as_deref().unwrap_or_default().into(),
            };
            if self.wanted.contains(&reference_to) {
                // Kinds without a generation change with every version.
                let version = || object.resource_version()?.parse().ok();
                let generation = meta.generation.or_else(version).unwrap_or(0);
                let found = (reference(&**object), generation);
                self.found.insert(reference_to, found);
            }
        }
    }

    fn walk_reduced<'m, K: Resource<DynamicType = ()>>(
        &mut self,
        kind: &'static str,
        metas: impl Iterator<Item = &'m Meta>,
    ) {
        if !self.wanted.iter().any(|wanted| wanted.kind == kind) {
            return;
        }
        for meta in metas {
            let reference_to = meta.reference(kind);
            if self.wanted.contains(&reference_to) {
                let version = || meta.resource_version.parse().ok();
                let generation = meta.generation.or_else(version).unwrap_or(0);
                let found = (reference_by::<K>(meta), generation);
                self.found.insert(reference_to, found);
            }
        }
    }

    /// `None` for an object that does not exist, which nobody can be told about.
    fn find(&self, object: &ObjectRef) -> Option<(ObjectReference, i64)> {
        self.found.get(object).cloned()
    }
}

fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        // The version would make every Event of an object look like one about another.
        resource_version: None,
        ..object.object_ref(&())
    }
}

fn reference_by<K: Resource<DynamicType = ()>>(meta: &Meta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: Some(meta.namespace.to_string()),
        name: Some(meta.name.to_string()),
        uid: Some(meta.uid.to_string()),
        ..ObjectReference::default()
    }
}

/// Of everything that is told.
fn hash(notice: &Notice) -> u64 {
    let Notice {
        about,
        generation,
        is_warning,
        reason,
        note,
    } = notice;
    let mut hasher = DefaultHasher::new();
    (about.uid(), generation, is_warning, reason, note).hash(&mut hasher);
    hasher.finish()
}

/// `<object>.<hash>`, as Events are named.
fn name(about: &ObjectReference, hash: u64) -> String {
    let object = about.name.as_deref().unwrap_or("object");
    // A DNS subdomain has at most 253 characters.
    let object = object.get(..object.len().min(230)).unwrap_or("object");
    format!("{object}.{hash:016x}")
}

/// The API takes at most 1 kB.
fn shortened(mut note: String) -> String {
    if note.len() > NOTE_BYTES_MAX {
        let end = (0..=NOTE_BYTES_MAX - 3)
            .rev()
            .find(|at| note.is_char_boundary(*at));
        note.truncate(end.unwrap_or(0));
        note.push('…');
    }
    note
}

/// Events a second.
const RATE: u32 = 50;
const NOTE_BYTES_MAX: usize = 1000;
