//! The objects of one kind in one scope, as the events of a watch tell them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_core::diagnostic::{Diagnostic, Reason};
use ingress_core::ir::ObjectRef;
use kube::Resource;
use kube::runtime::watcher::Event;

use super::lenient::{Lenient, Unreadable};

/// Namespace and name; no namespace is the empty text.
pub(super) type Key = (Arc<str>, Arc<str>);

/// What a watch has told so far, each object as what is kept of it.
#[derive(Debug)]
pub(super) struct Store<T> {
    objects: BTreeMap<Key, Arc<T>>,
    unreadable: BTreeMap<Key, Diagnostic>,
    /// A new list that is coming in; the old one counts until the new one is complete.
    incoming: Option<Incoming<T>>,
    is_complete: bool,
}

#[derive(Debug)]
struct Incoming<T> {
    objects: BTreeMap<Key, Arc<T>>,
    unreadable: BTreeMap<Key, Diagnostic>,
}

impl<T> Default for Store<T> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            unreadable: BTreeMap::new(),
            incoming: None,
            is_complete: false,
        }
    }
}

impl<T> Store<T> {
    /// Takes an event; `keep` is what is kept of an object.
    pub(super) fn apply<K>(&mut self, event: Event<Lenient<K>>, keep: fn(K) -> T)
    where
        K: Resource<DynamicType = ()>,
    {
        match event {
            Event::Init => {
                self.incoming = Some(Incoming {
                    objects: BTreeMap::new(),
                    unreadable: BTreeMap::new(),
                });
            }
            Event::InitApply(object) => {
                let Some(incoming) = &mut self.incoming else {
                    return;
                };
                let key = key_of(&object);
                match object.0 {
                    Ok(object) => {
                        incoming.objects.insert(key, Arc::new(keep(object)));
                    }
                    Err(unreadable) => {
                        let last_good = self.objects.get(&key).cloned();
                        incoming
                            .objects
                            .extend(last_good.map(|good| (key.clone(), good)));
                        incoming.unreadable.insert(key, diagnostic::<K>(unreadable));
                    }
                }
            }
            Event::InitDone => {
                if let Some(incoming) = self.incoming.take() {
                    self.objects = incoming.objects;
                    self.unreadable = incoming.unreadable;
                }
                self.is_complete = true;
            }
            Event::Apply(object) => {
                let key = key_of(&object);
                match object.0 {
                    Ok(object) => {
                        self.unreadable.remove(&key);
                        self.objects.insert(key, Arc::new(keep(object)));
                    }
                    Err(unreadable) => {
                        self.unreadable.insert(key, diagnostic::<K>(unreadable));
                    }
                }
            }
            Event::Delete(object) => {
                let key = key_of(&object);
                self.objects.remove(&key);
                self.unreadable.remove(&key);
            }
        }
    }

    /// Whether the first list has come in completely.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Every object, in order of namespace and name.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&Key, &Arc<T>)> {
        self.objects.iter()
    }

    /// The object of this namespace and name.
    pub(super) fn get(&self, key: &Key) -> Option<&Arc<T>> {
        self.objects.get(key)
    }

    /// Objects whose newest version cannot be understood.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.unreadable.values()
    }
}

fn key_of<K: Resource<DynamicType = ()>>(object: &Lenient<K>) -> Key {
    let meta = object.meta();
    let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
    (text(&meta.namespace), text(&meta.name))
}

fn diagnostic<K: Resource<DynamicType = ()>>(unreadable: Unreadable) -> Diagnostic {
    let Unreadable {
        metadata,
        field,
        message,
    } = unreadable;
    let kind = kind_name(&K::kind(&()));
    // What serde says quotes the value.
    let message = match kind {
        "Secret" => "is not of the type that the field has".to_owned(),
        _ => message,
    };
    Diagnostic {
        object: ObjectRef {
            kind,
            namespace: metadata.namespace.unwrap_or_default().into(),
            name: metadata.name.unwrap_or_default().into(),
        },
        field,
        reason: Reason::Unreadable,
        message: format!("{message}; its last good version, if any, stays in force"),
    }
}

fn kind_name(kind: &str) -> &'static str {
    KINDS
        .into_iter()
        .find(|known| *known == kind)
        .unwrap_or("Object")
}

const KINDS: [&str; 9] = [
    "ConfigMap",
    "EndpointSlice",
    "Ingress",
    "IngressClass",
    "Namespace",
    "Node",
    "Pod",
    "Secret",
    "Service",
];

#[cfg(test)]
mod tests {
    use ingress_core::object::Ingress as Kept;
    use k8s_openapi::api::networking::v1::Ingress;
    use serde_json::{Value, json};

    use super::*;

    fn ingress(name: &str, host: &Value) -> Lenient<Ingress> {
        serde_json::from_value(json!({
            "metadata": { "name": name, "namespace": "shop" },
            "spec": { "rules": [{ "host": host }] },
        }))
        .unwrap()
    }

    fn store(events: Vec<Event<Lenient<Ingress>>>) -> Store<Kept> {
        let mut store = Store::default();
        for event in events {
            store.apply(event, Kept::from);
        }
        store
    }

    fn hosts(store: &Store<Kept>) -> Vec<String> {
        store
            .objects()
            .map(|(_, ingress)| ingress.rules[0].host.to_string())
            .collect()
    }

    #[test]
    fn a_list_counts_when_it_is_complete() {
        let mut store = store(vec![
            Event::Init,
            Event::InitApply(ingress("a", &json!("a.test"))),
        ]);
        assert!(!store.is_complete());
        store.apply(Event::InitDone::<Lenient<Ingress>>, Kept::from);
        assert!(store.is_complete());
        assert_eq!(hosts(&store), ["a.test"]);
        store.apply(Event::Init::<Lenient<Ingress>>, Kept::from);
        store.apply(Event::InitApply(ingress("b", &json!("b.test"))), Kept::from);
        assert_eq!(
            hosts(&store),
            ["a.test"],
            "the old list, until the new one is complete"
        );
        store.apply(Event::InitDone::<Lenient<Ingress>>, Kept::from);
        assert_eq!(hosts(&store), ["b.test"]);
    }

    #[test]
    fn the_last_good_version_of_a_broken_object_stays() {
        let mut store = store(vec![
            Event::Init,
            Event::InitApply(ingress("a", &json!("a.test"))),
            Event::InitDone,
            Event::Apply(ingress("a", &json!(7))),
        ]);
        assert_eq!(hosts(&store), ["a.test"]);
        let said: Vec<String> = store.diagnostics().map(ToString::to_string).collect();
        assert!(
            said[0].starts_with("error: Ingress shop/a: spec.rules[0].host: "),
            "{said:?}"
        );
        for event in [
            Event::Init,
            Event::InitApply(ingress("a", &json!(8))),
            Event::InitDone,
        ] {
            store.apply(event, Kept::from);
        }
        assert_eq!(hosts(&store), ["a.test"], "also over a new list");
        store.apply(Event::Apply(ingress("a", &json!("b.test"))), Kept::from);
        assert_eq!(hosts(&store), ["b.test"]);
        assert_eq!(store.diagnostics().count(), 0);
    }
}
