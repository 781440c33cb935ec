//! `explain` agrees with the routes and says why others lost.

use ingress_core::explain::{Explanation, Question, explain};
use serde_json::json;

use crate::fixture::{Fixture, backend, rule};

fn ask(fixture: &Fixture, host: &str, path: &str) -> Explanation {
    explain(
        &fixture.snapshot,
        &fixture.options,
        &Question::new(host, path),
    )
}

fn fixture() -> Fixture {
    Fixture::new()
        .service("web")
        .service("old")
        .service("api")
        .ingress_of(
            2020,
            "old",
            json!({"rules": [rule("a.test", &[("Prefix", "/shop", "old")])]}),
        )
        .ingress_of(
            2024,
            "new",
            json!({"rules": [
                rule("a.test", &[("Prefix", "/shop", "web"), ("Prefix", "/", "web")]),
                rule("*.test", &[("Prefix", "/", "api")]),
            ]}),
        )
        .ingress_of(2022, "rest", json!({"defaultBackend": backend("api")}))
}

#[test]
fn the_winner_has_its_service_and_endpoints() {
    let found = ask(&fixture(), "A.test:443", "/shop/1?q=1");
    let server = found.served_by.unwrap();
    assert_eq!(found.host, "a.test");
    assert_eq!(server.object, "Ingress test/old");
    assert_eq!(server.backend.as_deref(), Some("test/old:80"));
    assert_eq!(server.endpoints, ["10.0.0.1:8080"]);
}

#[test]
fn losers_are_told_best_first_and_why() {
    let found = ask(&fixture(), "a.test", "/shop");
    let lost: Vec<_> = (found.lost.iter())
        .map(|loser| (&*loser.host, &*loser.path, &*loser.reason))
        .collect();
    let old = "Ingress test/old";
    assert_eq!(
        lost,
        [
            (
                "a.test",
                "/shop",
                &*format!("{old} is older and has the same host and path")
            ),
            ("a.test", "/", &*format!("path `/shop` of {old} is longer")),
            (
                "*.test",
                "/",
                &*format!("host `*.test` is less specific than `a.test` of {old}")
            ),
            (
                "*",
                "",
                &*format!("host `*` is less specific than `a.test` of {old}")
            ),
        ]
    );
    assert!(
        found.problems[0].contains("PathConflict"),
        "{:?}",
        found.problems
    );
}

#[test]
fn unknown_host_is_explained_as_404() {
    let only_shop = Fixture::new().service("web").ingress(
        "it",
        json!({"rules": [rule("a.test", &[("Exact", "/shop", "web")])]}),
    );
    let found = ask(&only_shop, "a.test", "/other");
    assert_eq!(found.served_by, None);
    let [loser] = &found.lost[..] else {
        panic!("{:?}", found.lost)
    };
    assert_eq!(loser.reason, "path is not `/shop`");
    let found = ask(&fixture(), "unknown", "/");
    assert_eq!(found.served_by.unwrap().object, "Ingress test/rest");
    assert_eq!(ask(&fixture(), "[::1]:80", "").path, "/");
}

#[test]
fn every_rule_of_the_host_has_its_reason() {
    let found = ask(&fixture(), "a.test", "/other");
    let lost = |path: &str| {
        let loser = found.lost.iter().find(|loser| loser.path == path);
        loser.map(|loser| (&*loser.object, &*loser.reason))
    };
    let reason = "path does not begin with the elements of `/shop`";
    assert_eq!(lost("/shop"), Some(("Ingress test/old", reason)));
    assert_eq!(found.served_by.as_ref().unwrap().path, "/");
}

fn guarded(annotations: &serde_json::Value) -> Fixture {
    Fixture::new().service("web").service("new").with(json!({
        "kind": "Ingress",
        "metadata": {"name": "it", "annotations": annotations},
        "spec": {
            "ingressClassName": "sluice",
            "tls": [{"hosts": ["a.test"], "secretName": "none"}],
            "rules": [rule("a.test", &[("Prefix", "/", "web")])],
        },
    }))
}

fn asked(fixture: &Fixture, question: &Question) -> Explanation {
    explain(&fixture.snapshot, &fixture.options, question)
}

#[test]
fn source_ranges_decide_by_the_address() {
    let key = "nginx.ingress.kubernetes.io/whitelist-source-range";
    let fixture = guarded(&json!({key: "10.0.0.0/8"}));
    let mut question = Question::new("a.test", "/");
    assert_eq!(
        asked(&fixture, &question).passage.checks,
        ["source ranges (--from tells)"]
    );
    question.client = Some("10.1.2.3".parse().unwrap());
    assert_eq!(asked(&fixture, &question).passage.answer, None);
    question.client = Some("192.0.2.1".parse().unwrap());
    let passage = asked(&fixture, &question).passage;
    assert_eq!(passage.answer.as_deref(), Some("403"));
    assert_eq!(passage.answered_by.as_deref(), Some("source ranges"));
}

#[test]
fn clear_text_is_redirected_where_the_host_has_tls() {
    let fixture = guarded(&json!({}));
    let mut question = Question::new("a.test", "/x?q=1");
    assert!(
        asked(&fixture, &question).passage.is_https,
        "as it should to this host"
    );
    question.is_https = Some(false);
    let passage = asked(&fixture, &question).passage;
    assert_eq!(passage.answer.as_deref(), Some("308 https://a.test/x?q=1"));
    assert_eq!(passage.answered_by.as_deref(), Some("redirect to HTTPS"));
}

#[test]
fn a_header_chooses_the_canary() {
    let prefix = "nginx.ingress.kubernetes.io/canary";
    let fixture = guarded(&json!({})).with(json!({
        "kind": "Ingress",
        "metadata": {"name": "canary", "annotations": {
            (prefix): "true",
            (format!("{prefix}-by-header")): "x-canary",
            (format!("{prefix}-weight")): "10",
        }},
        "spec": {
            "ingressClassName": "sluice",
            "rules": [rule("a.test", &[("Prefix", "/", "new")])],
        },
    }));
    let backend = |value: Option<&'static str>| {
        let mut question = Question::new("a.test", "/");
        if let Some(value) = value {
            let value = http::HeaderValue::from_static(value);
            question.headers.insert("x-canary", value);
        }
        let found = asked(&fixture, &question);
        (
            found.served_by.unwrap().backend.unwrap(),
            found.passage.canaries,
        )
    };
    let line = |text: &str| vec![format!("test/new:80 {text}")];
    let (main, canary) = ("test/web:80".to_owned(), "test/new:80".to_owned());
    assert_eq!(backend(Some("always")), (canary, line("gets the request")));
    assert_eq!(
        backend(Some("never")),
        (main.clone(), line("refuses it by header or cookie"))
    );
    assert_eq!(backend(None), (main, line("gets 10 of 100 by weight")));
}
