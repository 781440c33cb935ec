//! What holds for the translation of any objects, sound or not.

use std::collections::BTreeSet;
use std::sync::Arc;

use ingress_core::ir::ObjectRef;
use ingress_core::ir::{Certificate, Config, HostPattern};
use ingress_core::list::List;
use ingress_core::object::Meta;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, Translator, Unclassed, translate};
use k8s_openapi::api::networking::v1::Ingress;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::fixture::{Answers, Fixture};

const HOSTS: &[&str] = &["", "a.test", "b.test", "*.test", "*.a.test"];
const PATHS: &[&str] = &["/", "/a", "/a/", "/a/b", "/b"];
const SERVICES: &[&str] = &["s0", "s1", "s2", "missing"];

/// A backend, sound or not.
fn backend() -> impl Strategy<Value = Value> {
    let port = prop_oneof![
        4 => Just(json!({"number": 80})),
        2 => Just(json!({"name": "http"})),
        1 => Just(json!({"number": 8080})),
        1 => Just(json!({"number": 0, "name": ""})),
    ];
    prop_oneof![
        9 => (select(SERVICES), port)
            .prop_map(|(name, port)| json!({"service": {"name": name, "port": port}})),
        1 => Just(json!({"resource": {"kind": "Bucket", "name": "icons"}})),
    ]
}

fn path() -> impl Strategy<Value = Value> {
    let kinds = select(vec![
        "Exact",
        "Prefix",
        "Prefix",
        "ImplementationSpecific",
        "Unknown",
    ]);
    let texts = prop_oneof![9 => select(PATHS).prop_map(str::to_owned), 1 => any::<String>()];
    (texts, kinds, backend()).prop_map(
        |(text, kind, backend)| json!({"path": text, "pathType": kind, "backend": backend}),
    )
}

fn rule() -> impl Strategy<Value = Value> {
    let hosts = prop_oneof![9 => select(HOSTS).prop_map(str::to_owned), 1 => any::<String>()];
    (hosts, vec(path(), 0..4))
        .prop_map(|(host, paths)| json!({"host": host, "http": {"paths": paths}}))
}

fn spec() -> impl Strategy<Value = Value> {
    let tls = (
        vec(select(HOSTS), 0..3),
        select(vec!["good", "bad", "missing"]),
    )
        .prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let default = proptest::option::of(backend());
    let class = select(vec!["sluice", "sluice", "sluice", "other"]);
    (vec(rule(), 0..3), default, vec(tls, 0..2), class).prop_map(|(rules, default, tls, class)| {
        json!({
            "ingressClassName": class, "rules": rules, "defaultBackend": default, "tls": tls,
        })
    })
}

/// A number of Ingresses of few ages, with Services, slices and Secrets.
fn fixture() -> impl Strategy<Value = Fixture> {
    let default_backend = proptest::option::of(select(vec!["test/s0:80", "test/missing:80"]));
    (vec((2020_u16..2022, spec()), 0..6), default_backend).prop_map(|(ingresses, default)| {
        let mut fixture = surroundings();
        fixture.options.default_backend = default.map(|text| Arc::new(text.parse().unwrap()));
        for (index, (year, spec)) in ingresses.into_iter().enumerate() {
            fixture = fixture.with(json!({
                "kind": "Ingress",
                "metadata": {
                    "name": format!("i{index}"),
                    "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
                },
                "spec": spec,
            }));
        }
        fixture
    })
}

fn surroundings() -> Fixture {
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let slice_ports = json!([{"name": "http", "port": 8080}]);
    let secret = |name: &str, kind: &str| {
        json!({
            "kind": "Secret", "metadata": {"name": name}, "type": kind,
            "data": {"tls.crt": "Y3J0", "tls.key": "a2V5"},
        })
    };
    let class = |name: &str| {
        json!({
            "kind": "IngressClass",
            "metadata": {
                "name": name,
                "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"},
            },
            "spec": {"controller": "example.com/other"},
        })
    };
    Fixture::new()
        .with(secret("good", "kubernetes.io/tls"))
        .with(secret("bad", "Opaque"))
        .with(class("other"))
        .with(class("another"))
        .service_with("s0", &ports)
        .service_with("s1", &ports)
        .service_with("s2", &ports)
        .slice("s0", &slice_ports, &["10.0.0.2", "10.0.0.1"])
        .slice("s0", &slice_ports, &["10.0.0.3", "10.0.0.1"])
        .slice("s1", &slice_ports, &["fd00::1", "not an address"])
}

fn shuffled_kind<T: std::fmt::Debug>(objects: &List<T>) -> impl Strategy<Value = List<T>> + use<T> {
    let objects: Vec<_> = objects.iter().cloned().collect();
    Just(objects).prop_shuffle().prop_map(List::from_iter)
}

fn shuffled(snapshot: &Snapshot) -> impl Strategy<Value = Snapshot> + use<> {
    let Snapshot {
        ingresses,
        ingress_classes,
        services,
        endpoint_slices,
        secrets,
        config_maps,
        ..
    } = snapshot;
    let ingresses = shuffled_kind(ingresses);
    let ingress_classes = shuffled_kind(ingress_classes);
    let services = shuffled_kind(services);
    let endpoint_slices = shuffled_kind(endpoint_slices);
    let secrets = shuffled_kind(secrets);
    let config_maps = config_maps.clone();
    (
        ingresses,
        ingress_classes,
        services,
        endpoint_slices,
        secrets,
    )
        .prop_map(
            move |(ingresses, ingress_classes, services, endpoint_slices, secrets)| Snapshot {
                ingresses,
                ingress_classes,
                services,
                endpoint_slices,
                secrets,
                config_maps: config_maps.clone(),
                ..Snapshot::default()
            },
        )
}

/// The certificates that can be served.
fn usable(config: &Config) -> Vec<(&HostPattern, &Certificate)> {
    let certificates = config.certificates.iter();
    let usable = certificates.filter(|(_, certificate)| !certificate.is_absent());
    usable
        .map(|(host, certificate)| (host, &**certificate))
        .collect()
}

/// An Ingress that is all wrong, on a host of its own and on hosts of others.
fn wrong() -> impl Strategy<Value = Value> {
    let path = |kind: &str, path: &str| {
        let backend = json!({"service": {"name": "s0", "port": {"number": 80}}});
        json!({"path": path, "pathType": kind, "backend": backend})
    };
    let rules = vec![
        json!({"host": "a.test:80", "http": {"paths": [path("Prefix", "/")]}}),
        json!({"host": "own.example", "http": {"paths": [path("Exact", "relative")]}}),
        json!({"host": "own.example", "http": {"paths": [path("Regex", "/")]}}),
        json!({"host": "own.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {}}]}}),
    ];
    proptest::sample::subsequence(rules, 1..=4).prop_map(|rules| {
        json!({
            "kind": "Ingress",
            "metadata": {"name": "wrong"},
            "spec": {
                "ingressClassName": "sluice",
                "rules": rules,
                "tls": [{"hosts": ["a.test", "a b"], "secretName": "missing"}],
            },
        })
    })
}

fn objects(snapshot: &Snapshot) -> BTreeSet<(&'static str, String)> {
    let ingresses = snapshot.ingresses.iter().map(|object| &object.meta);
    let slices = snapshot.endpoint_slices.iter().map(|object| &object.meta);
    let classes = snapshot
        .ingress_classes
        .iter()
        .filter_map(|object| object.metadata.name.clone());
    let named = |kind, meta: &Meta| (kind, meta.name.to_string());
    let ingresses = ingresses.map(|meta| named("Ingress", meta));
    let slices = slices.map(|meta| named("EndpointSlice", meta));
    let classes = classes.map(|name| ("IngressClass", name));
    ingresses.chain(slices).chain(classes).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_order_of_objects_does_not_matter(
        (fixture, shuffled) in fixture().prop_flat_map(|fixture| {
            let shuffled = shuffled(&fixture.snapshot);
            (Just(Arc::new(fixture)), shuffled)
        }),
    ) {
        prop_assert_eq!(translate(&shuffled, &fixture.options), fixture.translate());
    }

    #[test]
    fn a_translator_that_has_read_other_snapshots_agrees_with_one_that_has_not(
        fixtures in vec(fixture(), 2..5), again in vec(0_usize..100, 6),
    ) {
        let options = &fixtures[0].options;
        let mut translator = Translator::new(options.clone());
        // Objects come from several snapshots: some are the same as before, some are not.
        let mut mixed = fixtures[0].snapshot.clone();
        for (turn, pick) in again.into_iter().enumerate() {
            let other = &fixtures[pick % fixtures.len()].snapshot;
            match turn % 3 {
                0 => mixed.ingresses.clone_from(&other.ingresses),
                1 => mixed.endpoint_slices.clone_from(&other.endpoint_slices),
                _ => mixed.services.clone_from(&other.services),
            }
            prop_assert_eq!(translator.translate(&mixed), translate(&mixed, options));
        }
    }

    #[test]
    fn a_wrong_object_does_not_change_the_answers_of_others(
        fixture in fixture(), wrong in wrong(), created in proptest::option::of(Just("1999-01-01T00:00:00Z")),
    ) {
        let before = fixture.translate();
        let mut wrong = wrong;
        wrong["metadata"]["creationTimestamp"] = json!(created);
        let after = fixture.with(wrong).translate();
        let answers = [&before.config, &after.config].map(Answers::of);
        for host in ["", "a.test", "b.test", "c.test", "x.a.test", "y.x.test"] {
            for path in ["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/c", "", "*"] {
                prop_assert_eq!(answers[0].ask(host, path), answers[1].ask(host, path));
            }
        }
        let [certificates_before, certificates_after] =
            [&before, &after].map(|translation| usable(&translation.config));
        prop_assert_eq!(certificates_before, certificates_after);
        let theirs: Vec<_> =
            after.diagnostics.into_iter().filter(|one| &*one.object.name != "wrong").collect();
        prop_assert_eq!(&theirs, &*before.diagnostics);
    }

    #[test]
    fn diagnostics_name_existing_objects_and_rules_existing_backends(fixture in fixture()) {
        let translation = fixture.translate();
        let objects = objects(&fixture.snapshot);
        for diagnostic in &translation.diagnostics {
            let ObjectRef { kind, name, .. } = &diagnostic.object;
            // The controller's own default backend is no field of any object.
            prop_assert!(*kind == "Service" || objects.contains(&(*kind, name.to_string())));
            prop_assert!(!diagnostic.message.ends_with('.'));
        }
        let config = &translation.config;
        let rules = config.hosts.values().flat_map(|host| host.rules.iter().chain(&host.default));
        for rule in rules.chain(&config.default_backend) {
            for backend in rule.target.backends() {
                prop_assert!(config.backends.contains_key(&backend.key));
            }
        }
        for host in config.hosts.values() {
            prop_assert!(host.rules.is_sorted_by(|a, b| a.matches < b.matches));
        }
    }

    #[test]
    fn no_text_in_an_ingress_makes_it_panic(
        host in any::<String>(), path in any::<String>(), kind in any::<String>(),
        service in any::<String>(), port in any::<i32>(), secret in any::<String>(),
    ) {
        let backend = json!({"service": {"name": service, "port": {"number": port}}});
        let path = json!({"path": path, "pathType": kind, "backend": backend});
        let ingress: Ingress = serde_json::from_value(json!({
            "metadata": {"name": host},
            "spec": {
                "rules": [{"host": host, "http": {"paths": [path]}}],
                "tls": [{"hosts": [host], "secretName": secret}],
            },
        })).unwrap();
        let snapshot = Snapshot { ingresses: List::from_iter([Arc::new(ingress.into())]), ..Snapshot::default() };
        let options = Options { unclassed: Unclassed::Accept, ..Options::default() };
        translate(&snapshot, &options);
    }
}
