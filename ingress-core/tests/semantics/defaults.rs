//! Hosts, their isolation, and default backends.

use std::sync::Arc;

use serde_json::json;

use crate::fixture::{Fixture, backend, rule};

#[test]
fn the_most_specific_host_wins_and_never_falls_through() {
    let rules = json!([
        rule("a.foo.com", &[("Prefix", "/exact", "exact")]),
        rule("*.foo.com", &[("Prefix", "/", "wildcard")]),
        rule("", &[("Prefix", "/", "any")]),
    ]);
    let answers = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .answers();
    assert_eq!(answers.ask("a.foo.com", "/exact"), "exact:80");
    assert_eq!(answers.ask("a.foo.com", "/other"), "404");
    assert_eq!(answers.ask("b.foo.com", "/exact"), "wildcard:80");
    assert_eq!(answers.ask("foo.com", "/"), "any:80");
    assert_eq!(answers.ask("a.b.foo.com", "/"), "any:80");
}

#[test]
fn the_host_header_may_have_port_case_and_trailing_dot() {
    let rules = json!([rule("Shop.Test", &[("Prefix", "/", "web")])]);
    let answers = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .answers();
    for host in ["shop.test", "shop.test:8080", "SHOP.test.", "shop.TEST.:1"] {
        assert_eq!(answers.ask(host, "/"), "web:80", "{host}");
    }
    for host in [
        "",
        "[::1]",
        "[::1]:80",
        "10.0.0.1",
        "shop.test:1:2",
        "shop.test..",
        "é.test",
    ] {
        assert_eq!(answers.ask(host, "/"), "404", "{host}");
    }
}

#[test]
fn paths_are_case_sensitive_and_implementation_specific_is_prefix() {
    let paths = [
        ("ImplementationSpecific", "/api", "api"),
        ("ImplementationSpecific", "", "root"),
    ];
    let rules = json!([rule("shop.test", &paths)]);
    let answers = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .answers();
    assert_eq!(answers.ask("shop.test", "/api/v1"), "api:80");
    assert_eq!(answers.ask("shop.test", "/apis"), "root:80");
    assert_eq!(answers.ask("shop.test", "/API"), "root:80");
}

#[test]
fn the_default_backend_of_an_ingress_with_rules_serves_its_hosts_only() {
    let spec = json!({
        "defaultBackend": backend("rest"),
        "rules": [rule("a.test", &[("Prefix", "/api", "api")]), {"host": "b.test"}],
    });
    let other = json!({"rules": [rule("c.test", &[("Prefix", "/api", "api")])]});
    let answers = Fixture::new()
        .ingress("it", spec)
        .ingress("other", other)
        .answers();
    assert_eq!(answers.ask("a.test", "/api"), "api:80");
    assert_eq!(answers.ask("a.test", "/"), "rest:80");
    assert_eq!(
        answers.ask("b.test", "/"),
        "rest:80",
        "a host without paths"
    );
    assert_eq!(answers.ask("c.test", "/"), "404");
    assert_eq!(answers.ask("d.test", "/"), "404");
}

#[test]
fn a_rule_for_the_root_leaves_nothing_to_the_default_backend() {
    let spec = json!({
        "defaultBackend": backend("rest"),
        "rules": [rule("a.test", &[("Prefix", "/", "root")])],
    });
    let answers = Fixture::new().ingress("it", spec).answers();
    assert_eq!(answers.ask("a.test", "/any"), "root:80");
}

#[test]
fn the_default_backend_of_an_ingress_without_rules_serves_hosts_that_nobody_names() {
    let fixture = Fixture::new()
        .ingress("all", json!({"defaultBackend": backend("rest")}))
        .ingress(
            "it",
            json!({"rules": [rule("a.test", &[("Prefix", "/api", "api")])]}),
        );
    let answers = fixture.answers();
    assert_eq!(answers.ask("b.test", "/x"), "rest:80");
    assert_eq!(answers.ask("", "/x"), "rest:80");
    assert_eq!(
        answers.ask("a.test", "/x"),
        "404",
        "a.test has rules of its own"
    );

    let hostless = json!({"rules": [rule("", &[("Prefix", "/api", "api")])]});
    let answers = fixture.ingress("hostless", hostless).answers();
    assert_eq!(answers.ask("b.test", "/api"), "api:80");
    assert_eq!(
        answers.ask("b.test", "/x"),
        "rest:80",
        "rules without a host share it"
    );
}

#[test]
fn the_controllers_default_backend_stands_behind_everything() {
    let mut fixture = Fixture::new().service("fallback").ingress(
        "it",
        json!({"rules": [rule("a.test", &[("Prefix", "/api", "api")])]}),
    );
    fixture.options.default_backend = Some(Arc::new("test/fallback:80".parse().unwrap()));
    let answers = fixture.answers();
    assert_eq!(answers.ask("a.test", "/x"), "fallback:80");
    assert_eq!(answers.ask("b.test", "/x"), "fallback:80");
    assert_eq!(fixture.translate().config.backends.len(), 2);

    let fixture = fixture.ingress("all", json!({"defaultBackend": backend("rest")}));
    let answers = fixture.answers();
    assert_eq!(answers.ask("a.test", "/x"), "fallback:80");
    assert_eq!(answers.ask("b.test", "/x"), "rest:80");
}
