//! Whose Ingress it is.

use ingress_core::translate::Unclassed;
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn class(name: &str, controller: &str, annotations: &Value) -> Value {
    json!({
        "kind": "IngressClass",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"controller": controller},
    })
}

/// Whether an Ingress with this class name and annotation is served.
fn accepts(fixture: Fixture, class_name: Option<&str>, annotation: Option<&str>) -> bool {
    let annotations = annotation.map(|value| json!({"kubernetes.io/ingress.class": value}));
    let fixture = fixture.with(json!({
        "kind": "Ingress",
        "metadata": {"name": "it", "annotations": annotations},
        "spec": {
            "ingressClassName": class_name,
            "rules": [rule("a.test", &[("Prefix", "/", "web")])],
        },
    }));
    fixture.answers().ask("a.test", "/") == "web:80"
}

const OURS: &str = "sluice.dev/ingress-controller";
const DEFAULT: &str = "ingressclass.kubernetes.io/is-default-class";

#[test]
fn a_class_is_ours_by_its_controller() {
    let fixture = || {
        Fixture::new()
            .with(class("edge", OURS, &json!({})))
            .with(class("sluice", "example.com/other", &json!({})))
    };
    assert!(accepts(fixture(), Some("edge"), None));
    assert!(
        !accepts(fixture(), Some("sluice"), None),
        "the object says whose it is"
    );
    assert!(!accepts(fixture(), Some("unknown"), None));
}

#[test]
fn without_the_class_object_its_name_counts() {
    assert!(accepts(Fixture::new(), Some("sluice"), None));
    assert!(!accepts(Fixture::new(), Some("nginx"), None));
}

#[test]
fn the_annotation_counts_when_there_is_no_class_name() {
    assert!(accepts(Fixture::new(), None, Some("sluice")));
    assert!(!accepts(Fixture::new(), None, Some("nginx")));
    assert!(!accepts(Fixture::new(), None, Some("")));
    assert!(accepts(Fixture::new(), Some("sluice"), Some("nginx")));
    assert!(!accepts(Fixture::new(), Some("nginx"), Some("sluice")));
}

#[test]
fn an_ingress_without_class_is_of_the_default_class() {
    let default = json!({DEFAULT: "true"});
    let fixture = |controller| Fixture::new().with(class("edge", controller, &default));
    assert!(accepts(fixture(OURS), None, None));
    assert!(!accepts(fixture("example.com/other"), None, None));
    assert!(!accepts(
        Fixture::new().with(class("edge", OURS, &json!({DEFAULT: "false"}))),
        None,
        None
    ));
}

#[test]
fn an_ingress_without_class_is_ours_if_we_are_told_so() {
    let mut fixture = Fixture::new();
    assert!(!accepts(Fixture::new(), None, None));
    fixture.options.unclassed = Unclassed::Accept;
    assert!(accepts(fixture, None, None));
}

#[test]
fn of_two_default_classes_the_newer_counts_and_the_other_is_reported() {
    let default = json!({DEFAULT: "true"});
    let of = |year: u16, mut class: Value| {
        class["metadata"]["creationTimestamp"] = format!("{year}-01-01T00:00:00Z").into();
        class
    };
    let fixture = |ours, others| {
        Fixture::new()
            .with(of(ours, class("b", OURS, &default)))
            .with(of(others, class("a", "example.com/other", &default)))
    };
    assert!(accepts(fixture(2021, 2020), None, None));
    assert!(!accepts(fixture(2020, 2021), None, None));
    assert!(
        !accepts(fixture(2020, 2020), None, None),
        "then the smaller name counts"
    );
    let expected = format!("a metadata.annotations[{DEFAULT}] DefaultClassConflict");
    assert_eq!(fixture(2021, 2020).findings(), [expected]);
}

const PROTOCOL: &str = "backend-protocol";

/// An Ingress of a class with parameters; the ConfigMap's data, and the Ingress's annotations.
fn with_parameters(parameters: &Value, data: &Value, annotations: &Value) -> Fixture {
    let mut class = class("edge", OURS, &json!({}));
    class["spec"]["parameters"] = parameters.clone();
    let rules = json!([rule("a.test", &[("Prefix", "/", "web")])]);
    Fixture::new()
        .with(class)
        .with(json!({
            "kind": "ConfigMap", "metadata": {"name": "defaults", "namespace": "edge"}, "data": data,
        }))
        .with(json!({
            "kind": "Ingress",
            "metadata": {"name": "it", "annotations": annotations},
            "spec": {"ingressClassName": "edge", "rules": rules},
        }))
        .service("web")
}

fn parameters() -> Value {
    json!({"kind": "ConfigMap", "name": "defaults", "namespace": "edge", "scope": "Namespace"})
}

#[test]
fn the_parameters_of_a_class_are_defaults_of_its_ingresses() {
    use ingress_core::ir::UpstreamProtocol::{Http1, Http2, Https};
    let annotation = json!({"nginx.ingress.kubernetes.io/backend-protocol": "GRPC"});
    for (data, annotations, expected) in [
        (json!({}), json!({}), Http1),
        (json!({PROTOCOL: "HTTPS"}), json!({}), Https),
        (json!({PROTOCOL: "HTTPS"}), annotation, Http2),
    ] {
        let fixture = with_parameters(&parameters(), &data, &annotations);
        assert_eq!(fixture.findings(), [""; 0]);
        let backends = fixture.translate().config.backends;
        let protocols: Vec<_> = backends.values().map(|backend| backend.protocol).collect();
        assert_eq!(protocols, [expected]);
    }
}

#[test]
fn parameters_that_mean_nothing_are_told_and_take_nothing_down() {
    let mut cluster_scoped = parameters();
    cluster_scoped["namespace"] = Value::Null;
    let mut custom = parameters();
    custom["apiGroup"] = "example.com".into();
    let mut missing = parameters();
    missing["name"] = "nope".into();
    for (parameters, data, expected) in [
        (
            cluster_scoped,
            json!({}),
            "edge spec.parameters InvalidParameters",
        ),
        (custom, json!({}), "edge spec.parameters InvalidParameters"),
        (missing, json!({}), "edge spec.parameters InvalidParameters"),
        (
            parameters(),
            json!({PROTOCOL: "gopher"}),
            "defaults data[backend-protocol] InvalidAnnotation",
        ),
        (
            parameters(),
            json!({"nonsense": "1"}),
            "defaults data[nonsense] UnknownParameter",
        ),
    ] {
        let fixture = with_parameters(&parameters, &data, &json!({}));
        assert_eq!(fixture.findings(), [expected]);
        assert_eq!(fixture.answers().ask("a.test", "/"), "web:80");
    }
}

#[test]
fn an_annotation_that_cannot_be_read_is_told_and_ignored() {
    let key = "nginx.ingress.kubernetes.io/backend-protocol";
    let fixture = with_parameters(&Value::Null, &json!({}), &json!({key: "gopher"}));
    assert_eq!(
        fixture.findings(),
        [format!("it metadata.annotations[{key}] InvalidAnnotation")]
    );
    assert_eq!(fixture.answers().ask("a.test", "/"), "web:80");
}

#[test]
fn only_what_our_ingresses_and_classes_name_is_needed() {
    let mut fixture = with_parameters(&parameters(), &json!({}), &json!({}));
    let tls = |secret: &str| json!({"tls": [{"secretName": secret}]});
    fixture = fixture.ingress("ours", tls("needed"));
    fixture = fixture.with(json!({
        "kind": "Ingress", "metadata": {"name": "theirs"},
        "spec": {"ingressClassName": "other", "tls": [{"secretName": "private"}]},
    }));
    let needs = ingress_core::translate::needs(&fixture.snapshot, &fixture.options);
    let names = |objects: &std::collections::BTreeSet<ingress_core::ir::ObjectRef>| {
        objects.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(&needs.secrets), ["Secret test/needed"]);
    assert_eq!(names(&needs.config_maps), ["ConfigMap edge/defaults"]);
}

#[test]
fn a_class_that_does_not_exist_is_told() {
    let of_class = |name: &str| {
        let rules = json!([rule("a.test", &[("Prefix", "/", "web")])]);
        Fixture::new()
            .with(class("other", "example.com/other", &json!({})))
            .with(json!({
                "kind": "Ingress",
                "metadata": {"name": "it"},
                "spec": {"ingressClassName": name, "rules": rules},
            }))
            .findings()
    };
    assert_eq!(of_class("typo"), ["it spec.ingressClassName UnknownClass"]);
    assert_eq!(of_class("other"), [""; 0], "somebody else's");
}

#[test]
fn an_ingress_of_ten_thousand_rules_is_served_and_changes_nothing_else() {
    let rules: Vec<_> = (0..10_000)
        .map(|number| rule(&format!("h{number}.test"), &[("Prefix", "/", "web")]))
        .collect();
    let fixture = Fixture::new()
        .service("web")
        .ingress(
            "small",
            json!({"rules": [rule("a.test", &[("Prefix", "/", "web")])]}),
        )
        .ingress("large", json!({"rules": rules}));
    assert_eq!(fixture.findings(), [""; 0]);
    let answers = fixture.answers();
    for host in ["a.test", "h0.test", "h9999.test"] {
        assert_eq!(answers.ask(host, "/"), "web:80");
    }
}
