//! Several Ingresses that want the same.

use serde_json::json;

use crate::fixture::{Fixture, backend, rule};

#[test]
fn the_older_ingress_keeps_host_and_path() {
    let spec = |service| json!({"rules": [rule("a.test", &[("Prefix", "/", service)])]});
    let fixture = Fixture::new()
        .ingress_of(2021, "a", spec("new"))
        .ingress_of(2020, "b", spec("old"));
    assert_eq!(fixture.answers().ask("a.test", "/"), "old:80");
    assert!(
        fixture
            .findings()
            .contains(&"a spec.rules[0].http.paths[0].path PathConflict".to_owned())
    );
}

#[test]
fn at_equal_age_the_smaller_namespace_and_name_wins() {
    let spec = |service| json!({"rules": [rule("a.test", &[("Prefix", "/", service)])]});
    let fixture = Fixture::new()
        .ingress("b", spec("b"))
        .ingress("a", spec("a"));
    assert_eq!(fixture.answers().ask("a.test", "/"), "a:80");
}

#[test]
fn a_trailing_slash_makes_no_other_prefix_but_another_exact_path() {
    let paths = [
        ("Prefix", "/foo/", "p1"),
        ("Prefix", "/foo", "p2"),
        ("Exact", "/foo/", "e1"),
        ("Exact", "/foo", "e2"),
        ("ImplementationSpecific", "/foo", "p3"),
    ];
    let fixture = Fixture::new().ingress("it", json!({"rules": [rule("a.test", &paths)]}));
    let answers = fixture.answers();
    assert_eq!(
        answers.ask("a.test", "/foo/bar"),
        "p1:80",
        "the first in the object wins"
    );
    assert_eq!(answers.ask("a.test", "/foo/"), "e1:80");
    assert_eq!(answers.ask("a.test", "/foo"), "e2:80");
    let conflicts: Vec<_> = fixture
        .findings()
        .into_iter()
        .filter(|finding| finding.ends_with("Conflict"))
        .collect();
    assert_eq!(
        conflicts,
        [1, 4].map(|path| format!("it spec.rules[0].http.paths[{path}].path PathConflict"))
    );
}

#[test]
fn ingresses_share_a_host() {
    let spec = |path, service| json!({"rules": [rule("a.test", &[("Prefix", path, service)])]});
    let fixture = Fixture::new()
        .ingress("a", spec("/a", "a"))
        .ingress("b", spec("/b", "b"));
    let answers = fixture.answers();
    assert_eq!(
        (answers.ask("a.test", "/a"), answers.ask("a.test", "/b")),
        ("a:80", "b:80")
    );
}

#[test]
fn the_oldest_default_backend_wins_host_by_host() {
    let spec = |service, hosts: &[&str]| {
        let rules: Vec<_> = hosts.iter().map(|host| json!({"host": host})).collect();
        json!({"defaultBackend": backend(service), "rules": rules})
    };
    let fixture = Fixture::new()
        .service("old")
        .service("new")
        .ingress_of(2021, "a", spec("new", &["a.test", "b.test"]))
        .ingress_of(2020, "b", spec("old", &["a.test"]));
    let answers = fixture.answers();
    assert_eq!(answers.ask("a.test", "/"), "old:80");
    assert_eq!(answers.ask("b.test", "/"), "new:80");
    assert_eq!(
        fixture.findings(),
        ["a spec.defaultBackend DefaultBackendConflict"]
    );
}

#[test]
fn the_oldest_ingress_without_rules_serves_other_hosts() {
    let fixture = Fixture::new()
        .service("old")
        .service("new")
        .ingress_of(2021, "a", json!({"defaultBackend": backend("new")}))
        .ingress_of(2020, "b", json!({"defaultBackend": backend("old")}));
    assert_eq!(fixture.answers().ask("a.test", "/"), "old:80");
    assert_eq!(
        fixture.findings(),
        ["a spec.defaultBackend DefaultBackendConflict"]
    );
    assert_eq!(
        fixture.translate().config.backends.len(),
        1,
        "the loser's backend is not needed"
    );
}
