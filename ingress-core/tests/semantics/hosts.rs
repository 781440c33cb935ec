//! Hosts as a whole: whose they are, and what restricts access to their routes.

use ingress_core::ir::HostPattern;
use ingress_core::translate::{Compat, HostOwnership};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// An Ingress of a namespace and year with one path to the Service `web`.
fn ingress(namespace: &str, year: u16, host: &str, path: &str, annotations: &Value) -> Value {
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let path = json!({"path": path, "pathType": "Prefix", "backend": backend});
    json!({
        "kind": "Ingress",
        "metadata": {
            "name": format!("{namespace}-{year}"),
            "namespace": namespace,
            "annotations": annotations,
            "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
        },
        "spec": {
            "ingressClassName": "sluice",
            "rules": [{"host": host, "http": {"paths": [path]}}],
        },
    })
}

fn web(namespace: &str) -> Value {
    json!({
        "kind": "Service",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {"ports": [{"port": 80}]},
    })
}

fn passthrough(fixture: &Fixture, host: &str) -> Option<String> {
    let host = HostPattern::parse(host).unwrap();
    let config = fixture.translate().config;
    let key = config.hosts[&host].passthrough.as_ref();
    key.map(ToString::to_string)
}

#[test]
fn newer_ingress_of_another_namespace_does_not_take_a_hosts_tls() {
    let annotations = json!({"nginx.ingress.kubernetes.io/ssl-passthrough": "true"});
    let fixture = Fixture::new()
        .with(web("victim"))
        .with(web("attacker"))
        .with(ingress("victim", 2020, "t.test", "/app", &json!({})))
        .with(ingress("attacker", 2026, "t.test", "/", &annotations));
    assert_eq!(passthrough(&fixture, "t.test"), None);
    let field = "metadata.annotations[ssl-passthrough]";
    let expected = format!("attacker-2026 {field} HostConflict");
    assert_eq!(fixture.findings(), [expected]);
}

#[test]
fn passthrough_leads_to_the_owners_own_backend_only() {
    let annotations = json!({"nginx.ingress.kubernetes.io/ssl-passthrough": "true"});
    let owner = Fixture::new()
        .with(web("a"))
        .with(ingress("a", 2020, "t.test", "/", &annotations));
    assert_eq!(passthrough(&owner, "t.test").as_deref(), Some("a/web:80"));
    // The root belongs to another Ingress: nothing is passed to it.
    let shared = Fixture::new()
        .with(web("a"))
        .with(web("b"))
        .with(ingress("a", 2020, "t.test", "/app", &annotations))
        .with(ingress("b", 2021, "t.test", "/", &json!({})));
    assert_eq!(passthrough(&shared, "t.test"), None);
}

#[test]
fn host_ownership_keeps_other_namespaces_out() {
    let mut fixture = Fixture::new()
        .with(web("a"))
        .with(web("b"))
        .with(ingress("a", 2020, "t.test", "/", &json!({})))
        .with(ingress("a", 2021, "t.test", "/own", &json!({})))
        .with(ingress("b", 2022, "t.test", "/admin", &json!({})));
    assert_eq!(fixture.findings(), [""; 0]);
    fixture.options.host_ownership = HostOwnership::Namespace;
    let expected = "b-2022 spec.rules[0].http.paths[0].path HostConflict";
    assert_eq!(fixture.findings(), [expected]);
    let rules = &fixture.translate().config.hosts[&HostPattern::parse("t.test").unwrap()].rules;
    let paths: Vec<_> = rules.iter().map(|rule| &*rule.origin.path).collect();
    assert_eq!(paths, ["/own", "/"]);
}

#[test]
fn restriction_that_cannot_be_honoured_answers_503_and_is_an_error() {
    for key in [
        "auth-url",
        "limit-rps",
        "configuration-snippet",
        "enable-modsecurity",
    ] {
        let key = format!("nginx.ingress.kubernetes.io/{key}");
        let fixture = Fixture::new().with(web("a")).with(ingress(
            "a",
            2020,
            "t.test",
            "/",
            &json!({&key: "true"}),
        ));
        assert_eq!(fixture.answers().ask("t.test", "/x"), "503", "{key}");
        let expected = format!("a-2020 metadata.annotations[{key}] RestrictionNotHonoured");
        assert_eq!(fixture.findings(), [expected]);
        let mut ignored = fixture;
        let name = key.rsplit_once('/').unwrap().1.to_owned();
        ignored.options.ignored_annotations = [name].into();
        assert_eq!(ignored.answers().ask("t.test", "/x"), "web:80", "{key}");
        assert_eq!(ignored.findings(), [""; 0]);
    }
}

#[test]
fn redirect_of_all_requests_takes_the_place_of_the_backend() {
    let annotations = json!({
        "nginx.ingress.kubernetes.io/permanent-redirect": "https://new.test/",
        "nginx.ingress.kubernetes.io/permanent-redirect-code": "308",
    });
    let fixture =
        Fixture::new()
            .with(web("a"))
            .with(ingress("a", 2020, "t.test", "/", &annotations));
    assert_eq!(
        fixture.answers().ask("t.test", "/x"),
        "308 https://new.test/"
    );
}

/// `use-regex` on one Ingress, and an `Exact` path of another one of the same host.
fn regex_fixture(compat: Compat) -> Fixture {
    let regex = json!({"nginx.ingress.kubernetes.io/use-regex": "true"});
    let mut exact = ingress("a", 2021, "t.test", "/Header", &json!({}));
    exact["spec"]["rules"][0]["http"]["paths"][0]["pathType"] = "Exact".into();
    let mut fixture = Fixture::new()
        .with(web("a"))
        .with(ingress("a", 2020, "t.test", "/[A-Z]{3}", &regex))
        .with(exact);
    fixture.options.compat = compat;
    fixture
}

#[test]
fn regular_expressions_concern_the_paths_of_their_own_ingress() {
    let answers = regex_fixture(Compat::Strict).answers();
    assert_eq!(answers.ask("t.test", "/uuid"), "web:80");
    assert_eq!(answers.ask("t.test", "/x"), "404");
    assert_eq!(answers.ask("t.test", "/Header"), "web:80");
}

/// The official migration warning of ingress-nginx, points 1 and 2.
#[test]
fn with_ingress_nginx_every_path_of_the_host_is_an_expression() {
    let fixture = regex_fixture(Compat::IngressNginx);
    let config = fixture.translate().config;
    let rules = &config.hosts[&HostPattern::parse("t.test").unwrap()].rules;
    let paths: Vec<_> = (rules.iter())
        .map(|rule| rule.matches.path.to_string())
        .collect();
    assert_eq!(paths, ["~* ^/[A-Z]{3}", "~* ^/Header"]);
}

#[test]
fn invalid_expression_is_reported_and_serves_nothing() {
    let regex = json!({"nginx.ingress.kubernetes.io/use-regex": "true"});
    for path in ["/a(", "/(?=b)", "/(a)\\1", "/a{1000}{1000}"] {
        let fixture = Fixture::new()
            .with(web("a"))
            .with(ingress("a", 2020, "t.test", path, &regex));
        let expected = "a-2020 spec.rules[0].http.paths[0].path InvalidPath";
        assert_eq!(fixture.findings(), [expected], "{path}");
    }
}

#[test]
fn fields_of_responses_come_from_a_config_map_that_the_class_allows() {
    let annotations = json!({"nginx.ingress.kubernetes.io/custom-headers": "a/fields"});
    let class = json!({
        "kind": "IngressClass",
        "metadata": {"name": "sluice"},
        "spec": {
            "controller": "sluice.dev/ingress-controller",
            "parameters": {
                "kind": "ConfigMap", "name": "class", "namespace": "a", "scope": "Namespace",
            },
        },
    });
    let config_map = |name: &str, data: Value| {
        json!({
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "a"},
            "data": data,
        })
    };
    let allowed = config_map(
        "class",
        json!({"global-allowed-response-headers": "X-A, X-B"}),
    );
    let base = || {
        Fixture::new()
            .with(web("a"))
            .with(class.clone())
            .with(allowed.clone())
            .with(ingress("a", 2020, "t.test", "/", &annotations))
    };
    let good = base().with(config_map("fields", json!({"X-A": "b"})));
    assert_eq!(good.findings(), [""; 0]);
    assert_eq!(good.answers().ask("t.test", "/"), "web:80");
    let field = "metadata.annotations[custom-headers]";
    let expected = format!("a-2020 {field} InvalidHeaders");
    for bad in [
        base(),
        base().with(config_map("fields", json!({"X-C": "b"}))),
    ] {
        assert_eq!(bad.findings(), std::slice::from_ref(&expected));
        assert_eq!(bad.answers().ask("t.test", "/"), "503");
    }
}
