//! `explain` agrees with the routes and says why others lost.

use ingress_core::explain::{Explanation, explain};
use serde_json::json;

use crate::fixture::{Fixture, backend, rule};

fn ask(fixture: &Fixture, host: &str, path: &str) -> Explanation {
    explain(&fixture.snapshot, &fixture.options, host, path)
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
            (
                "a.test",
                "/",
                &*format!("path `/shop` of {old} is longer, or exact")
            ),
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
    assert_eq!((found.served_by, found.lost), (None, vec![]));
    let found = ask(&fixture(), "unknown", "/");
    assert_eq!(found.served_by.unwrap().object, "Ingress test/rest");
    assert_eq!(ask(&fixture(), "[::1]:80", "").path, "/");
}
