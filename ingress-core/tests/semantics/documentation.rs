//! Every row of the two tables of the Kubernetes Ingress documentation: "Examples" of path types
//! and of hostname wildcards.

use serde_json::json;

use crate::fixture::{Fixture, backend, rule};

/// The paths of a row in order, the request path, and which of them it matches; `None` where the
/// documentation says no match or the default backend.
struct Row {
    paths: &'static [(&'static str, &'static str)],
    requests: &'static [&'static str],
    matches: Option<usize>,
}

const PATHS: &[Row] = &[
    Row {
        paths: &[("Prefix", "/")],
        requests: &["/", "/foo", "/foo/", "/foo/bar", "//", "/foo//bar"],
        matches: Some(0),
    },
    Row {
        paths: &[("Exact", "/foo")],
        requests: &["/foo"],
        matches: Some(0),
    },
    Row {
        paths: &[("Exact", "/foo")],
        requests: &["/bar"],
        matches: None,
    },
    Row {
        paths: &[("Exact", "/foo")],
        requests: &["/foo/"],
        matches: None,
    },
    Row {
        paths: &[("Exact", "/foo/")],
        requests: &["/foo"],
        matches: None,
    },
    Row {
        paths: &[("Prefix", "/foo")],
        requests: &["/foo", "/foo/"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/foo/")],
        requests: &["/foo", "/foo/"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa/bb")],
        requests: &["/aaa/bbb"],
        matches: None,
    },
    Row {
        paths: &[("Prefix", "/aaa/bbb")],
        requests: &["/aaa/bbb"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa/bbb/")],
        requests: &["/aaa/bbb"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa/bbb")],
        requests: &["/aaa/bbb/"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa/bbb")],
        requests: &["/aaa/bbb/ccc"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa/bbb")],
        requests: &["/aaa/bbbxyz"],
        matches: None,
    },
    Row {
        paths: &[("Prefix", "/"), ("Prefix", "/aaa")],
        requests: &["/aaa/ccc"],
        matches: Some(1),
    },
    Row {
        paths: &[("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")],
        requests: &["/aaa/bbb"],
        matches: Some(2),
    },
    Row {
        paths: &[("Prefix", "/"), ("Prefix", "/aaa"), ("Prefix", "/aaa/bbb")],
        requests: &["/ccc"],
        matches: Some(0),
    },
    Row {
        paths: &[("Prefix", "/aaa")],
        requests: &["/ccc"],
        matches: None,
    },
    Row {
        paths: &[("Prefix", "/foo"), ("Exact", "/foo")],
        requests: &["/foo"],
        matches: Some(1),
    },
];

#[test]
fn path_types() {
    for (number, row) in PATHS.iter().enumerate() {
        let names: Vec<_> = (0..row.paths.len())
            .map(|index| format!("path-{index}"))
            .collect();
        let paths: Vec<_> = row
            .paths
            .iter()
            .zip(&names)
            .map(|((kind, path), name)| (*kind, *path, &**name))
            .collect();
        let rules = json!([rule("shop.test", &paths)]);
        let fixture = Fixture::new().ingress(
            "it",
            json!({"defaultBackend": backend("rest"), "rules": rules}),
        );
        for request in row.requests {
            let expected = row
                .matches
                .map_or("rest:80".to_owned(), |index| format!("path-{index}:80"));
            let answers = fixture.answers();
            assert_eq!(
                answers.ask("shop.test", request),
                expected,
                "row {number}, `{request}`"
            );
        }
    }
}

#[test]
fn hostname_wildcards() {
    let rules = json!([rule("*.foo.com", &[("Prefix", "/", "web")])]);
    let answers = Fixture::new()
        .ingress("it", json!({"rules": rules}))
        .answers();
    for (host, expected) in [
        ("bar.foo.com", "web:80"),
        ("baz.bar.foo.com", "404"),
        ("foo.com", "404"),
    ] {
        assert_eq!(answers.ask(host, "/"), expected, "{host}");
    }
}

/// `UPDATE_DOCS=1 cargo test -p ingress-core reference` writes it anew.
#[test]
fn reference_of_annotations_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/annotations.md");
    let reference = ingress_core::annotation::reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &reference).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        written == reference,
        "docs/annotations.md is stale: UPDATE_DOCS=1 cargo test -p ingress-core reference"
    );
}
