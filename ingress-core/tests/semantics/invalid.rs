//! What cannot be served is reported, and the rest is served.

use serde_json::{Value, json};

use crate::fixture::{Fixture, backend, rule};

/// Translates an Ingress with one strange part among good ones, which have to be served.
fn findings(strange_rule: &Value) -> Vec<String> {
    let good = rule("good.test", &[("Prefix", "/", "web")]);
    let rules = json!([good, strange_rule, good_too()]);
    let fixture = Fixture::new()
        .service("web")
        .ingress("it", json!({"rules": rules}));
    let answers = fixture.answers();
    assert_eq!(answers.ask("good.test", "/"), "web:80");
    assert_eq!(answers.ask("good-too.test", "/"), "web:80");
    fixture.findings()
}

fn good_too() -> Value {
    rule("good-too.test", &[("Prefix", "/", "web")])
}

fn with_backend(backend: &Value) -> Vec<String> {
    let paths = json!([
        {"path": "/strange", "pathType": "Prefix", "backend": backend},
        {"path": "/", "pathType": "Prefix", "backend": self::backend("web")},
    ]);
    let rules = json!([{"host": "a.test", "http": {"paths": paths}}]);
    let fixture = Fixture::new()
        .service("web")
        .ingress("it", json!({"rules": rules}));
    let answers = fixture.answers();
    assert_eq!(
        answers.ask("a.test", "/strange"),
        "503",
        "it must not reach another rule's backend"
    );
    assert_eq!(answers.ask("a.test", "/"), "web:80");
    fixture.findings()
}

#[test]
fn hosts() {
    let long = format!("{}.test", "a".repeat(64));
    for host in [
        "a.test:80",
        "a..test",
        "-a.test",
        "*",
        "*.",
        "a.*.test",
        "10.0.0.1",
        "::1",
        "a b",
        &long,
    ] {
        let found = findings(&rule(host, &[("Prefix", "/", "web")]));
        assert_eq!(found, ["it spec.rules[1].host InvalidHost"], "{host}");
    }
}

#[test]
fn paths() {
    for path in [
        "", "foo", "/a//b", "/a/./b", "/a/../b", "/a/..", "/a/.", "/a%2fb",
    ] {
        for path_type in ["Exact", "Prefix"] {
            let found = findings(&rule("a.test", &[(path_type, path, "web")]));
            assert_eq!(
                found,
                ["it spec.rules[1].http.paths[0].path InvalidPath"],
                "{path}"
            );
        }
    }
    let found = findings(&rule("a.test", &[("ImplementationSpecific", "foo", "web")]));
    assert_eq!(found, ["it spec.rules[1].http.paths[0].path InvalidPath"]);
}

#[test]
fn path_types() {
    for path_type in ["", "prefix", "Regex"] {
        let found = findings(&rule("a.test", &[(path_type, "/", "web")]));
        assert_eq!(
            found,
            ["it spec.rules[1].http.paths[0].pathType InvalidPathType"]
        );
    }
}

#[test]
fn an_invalid_path_still_claims_its_host() {
    let rules = json!([
        rule("a.test", &[("Exact", "foo", "web")]),
        rule("", &[("Prefix", "/", "any")])
    ]);
    let answers = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .answers();
    assert_eq!(answers.ask("a.test", "/"), "404");
    assert_eq!(answers.ask("b.test", "/"), "any:80");
}

#[test]
fn backends() {
    let field = "it spec.rules[0].http.paths[0].backend";
    let resource = json!({"apiGroup": "k8s.example.com", "kind": "Bucket", "name": "icons"});
    assert_eq!(
        with_backend(&json!({"resource": resource})),
        [format!("{field} ResourceBackendUnsupported")]
    );
    let invalid = [format!("{field} InvalidBackend")];
    let service = json!({"name": "web", "port": {"number": 80}});
    for backend in [
        json!({"resource": resource, "service": service}),
        json!({}),
        json!({"service": {"name": "web"}}),
        json!({"service": {"name": "web", "port": {}}}),
        json!({"service": {"name": "web", "port": {"number": 80, "name": "http"}}}),
        json!({"service": {"name": "web", "port": {"number": 70_000}}}),
        json!({"service": {"name": "web", "port": {"number": -1}}}),
        json!({"service": {"name": "", "port": {"number": 80}}}),
    ] {
        assert_eq!(with_backend(&backend), invalid, "{backend}");
    }
}

#[test]
fn a_default_backend() {
    let spec = json!({"defaultBackend": {}, "rules": [rule("a.test", &[])]});
    let fixture = Fixture::new().ingress("it", spec);
    assert_eq!(fixture.answers().ask("a.test", "/"), "503");
    assert_eq!(
        fixture.findings(),
        ["it spec.defaultBackend InvalidBackend"]
    );
}

#[test]
fn an_ingress_without_specification_means_nothing() {
    let mut fixture = Fixture::new();
    fixture.options.unclassed = ingress_core::translate::Unclassed::Accept;
    let fixture = fixture.with(json!({"kind": "Ingress", "metadata": {"name": "it"}}));
    assert_eq!(
        fixture.translate().config,
        ingress_core::ir::Config::default()
    );
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn a_message_names_the_value_and_what_follows() {
    let rules = json!([rule("a.test:80", &[("Prefix", "/", "web")])]);
    let translation = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .translate();
    assert_eq!(
        translation.diagnostics[0].to_string(),
        "error: Ingress test/it: spec.rules[0].host: `a.test:80`: host has the character `:`, \
         which no host name has (a port is not allowed) (InvalidHost)"
    );
}
