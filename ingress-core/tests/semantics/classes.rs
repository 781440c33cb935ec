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
