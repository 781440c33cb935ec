//! Whatever annotations say: nothing panics, and no restriction is ever left out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use ingress_core::filter::{self, Context, Decision, RequestHead};
use ingress_core::ir::{Filter, Rule, Target};
use ingress_core::object::{
    Ingress, IngressBackend, IngressPath, IngressRule, Meta, PathType, ServiceBackend,
};
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, translate};

/// Annotations of one Ingress, and a request to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scene {
    /// Without prefixes.
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) method: String,
    pub(crate) authority: String,
    pub(crate) path: Vec<u8>,
    pub(crate) fields: Vec<(String, String)>,
}

/// Serves the request of a scene as far as no endpoint has a part in it, and holds what comes of it
/// to what must be true.
pub(crate) fn check(scene: &Scene) {
    let translation = translate(&snapshot(scene), &Options::default());
    for rules in translation.config.hosts.values() {
        for rule in &rules.rules {
            restrictions_hold(scene, rule);
            run(scene, rule);
        }
    }
}

fn restrictions_hold(scene: &Scene, rule: &Rule) {
    let is_open = matches!(rule.target, Target::Backends(_));
    let has = |wanted: fn(&Filter) -> bool| rule.policy.filters.iter().any(wanted);
    let is_set = |key: &str| {
        let value = scene.annotations.get(key);
        value.is_some_and(|value| !value.trim().is_empty())
    };
    if is_open && is_set("auth-type") {
        let asks = |filter: &Filter| matches!(filter, Filter::Authenticate(asked) if asked.basic.is_some());
        assert!(has(asks), "{scene:?}");
    }
    if is_open && is_set("auth-url") {
        let asks = |filter: &Filter| matches!(filter, Filter::Authenticate(asked) if asked.external.is_some());
        assert!(has(asks), "{scene:?}");
    }
    for key in [
        "whitelist-source-range",
        "allowlist-source-range",
        "denylist-source-range",
    ] {
        if is_open && scene.annotations.contains_key(key) {
            let looks = |filter: &Filter| {
                let is_asked =
                    matches!(filter, Filter::Authenticate(asked) if asked.sources.is_some());
                is_asked || matches!(filter, Filter::Access(_))
            };
            assert!(has(looks), "{scene:?}");
        }
    }
    for key in [
        "enable-modsecurity",
        "configuration-snippet",
        "server-snippet",
        "auth-snippet",
    ] {
        let value = scene.annotations.get(key);
        let is_off = |value: &String| {
            let value = value.trim();
            value.is_empty() || matches!(value, "0" | "f" | "F" | "FALSE" | "false" | "False")
        };
        let is_on = value.is_some_and(|value| !is_off(value));
        assert!(!is_open || !is_on, "{key}: {scene:?}");
    }
}

fn run(scene: &Scene, rule: &Rule) {
    let mut headers = HeaderMap::new();
    for (name, value) in &scene.fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_str(value)) {
            headers.append(name, value);
        }
    }
    let context = Context {
        is_https: false,
        method: &scene.method,
        headers: &headers,
        authority: &scene.authority,
        path: &scene.path,
        target: &scene.path,
        client: [192, 0, 2, 1].into(),
    };
    let mut set = HeaderMap::new();
    let mut from = 0;
    loop {
        let mut head = RequestHead {
            headers: &mut set,
            path: None,
            host: None,
        };
        match filter::on_request(&rule.policy.filters, from, &mut head, &context) {
            Decision::Check { resume, .. } => {
                assert!(resume > from, "filters go on");
                from = resume;
            }
            Decision::Continue | Decision::Respond(_) | Decision::Close => break,
        }
    }
    let mut fields = HeaderMap::new();
    fields.insert(
        "set-cookie",
        HeaderValue::from_static("a=b; Path=/; Domain=a.test"),
    );
    fields.insert("location", HeaderValue::from_static("http://a.test/"));
    filter::on_response(&rule.policy.filters, &mut fields, &context);
}

fn snapshot(scene: &Scene) -> Snapshot {
    let annotations = scene.annotations.iter();
    let annotations = annotations
        .map(|(key, value)| (format!("nginx.ingress.kubernetes.io/{key}"), value.clone()));
    let backend = IngressBackend {
        service: Some(ServiceBackend {
            name: "web".into(),
            port_name: None,
            port_number: Some(80),
        }),
        resource: None,
    };
    let ingress = Ingress {
        meta: Meta {
            namespace: "test".into(),
            name: "it".into(),
            ..Meta::default()
        },
        annotations: annotations.collect(),
        class: Some("sluice".into()),
        rules: [IngressRule {
            host: "a.test".into(),
            paths: [IngressPath {
                path: "/".into(),
                path_type: PathType::Prefix,
                backend,
            }]
            .into(),
        }]
        .into(),
        ..Ingress::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.ingresses.push(Arc::new(ingress));
    snapshot
}

/// Reads a scene: lines of `key=value`, an empty line, method, authority, path, and fields.
pub(crate) fn read(text: &str) -> Scene {
    let mut scene = Scene::default();
    let (annotations, request) = text.split_once("\n\n").unwrap_or((text, ""));
    let known: BTreeSet<&str> = ingress_core::annotation::known_keys().collect();
    for line in annotations.lines() {
        let (key, value) = line.split_once('=').unwrap_or((line, ""));
        // A number stands for a known key, so that a fuzzer need not spell them.
        let by_number = key.parse().ok().and_then(|number: usize| {
            known
                .iter()
                .nth(number % known.len())
                .map(|key| (*key).to_owned())
        });
        let key = by_number.unwrap_or_else(|| key.to_owned());
        scene.annotations.insert(key, value.replace("\\n", "\n"));
    }
    let mut lines = request.lines();
    let mut next = || lines.next().unwrap_or_default().to_owned();
    scene.method = next();
    scene.authority = next();
    scene.path = next().into_bytes();
    let fields = lines.filter_map(|line| line.split_once(": "));
    scene.fields = fields
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    scene
}
