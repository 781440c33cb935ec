//! Client certificates: annotations `auth-tls-*`.

use ingress_core::ir::{Config, HostPattern, VerifyMode};
use ingress_core::translate::needs;
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn secret(data: &Value) -> Value {
    json!({"kind": "Secret", "metadata": {"name": "ca"}, "type": "Opaque", "data": data})
}

fn good() -> Value {
    secret(&json!({"ca.crt": "Y2E=", "ca.crl": "Y3Js"}))
}

/// An Ingress of a year with annotations `auth-tls-*`.
fn ingress(year: u16, name: &str, hosts: &[&str], annotations: &[(&str, &str)]) -> Value {
    let rules: Vec<_> = hosts.iter().map(|host| rule(host, &[])).collect();
    let annotations: serde_json::Map<String, Value> = annotations
        .iter()
        .map(|(key, value)| {
            let key = format!("nginx.ingress.kubernetes.io/auth-tls-{key}");
            (key, (*value).into())
        })
        .collect();
    json!({
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "annotations": annotations,
            "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
        },
        "spec": {"ingressClassName": "sluice", "rules": rules},
    })
}

/// What is asked for, as `host mode depth`, and `closed` where nobody gets in.
fn asked(config: &Config) -> Vec<String> {
    let auth = config.client_auth.iter();
    auth.map(|(host, auth)| {
        let closed = if auth.authorities.is_none() {
            " closed"
        } else {
            ""
        };
        format!("{host} {:?} {}{closed}", auth.mode, auth.depth)
    })
    .collect()
}

#[test]
fn the_hosts_of_an_ingress_ask_for_certificates() {
    let fixture = Fixture::new().with(good()).with(ingress(
        2020,
        "it",
        &["a.test", "*.b.test"],
        &[
            ("secret", "test/ca"),
            ("pass-certificate-to-upstream", "true"),
            ("error-page", "https://login.test/"),
            ("verify-depth", "2"),
        ],
    ));
    let config = fixture.translate().config;
    assert_eq!(asked(&config), ["a.test Required 2", "*.b.test Required 2"]);
    let auth = &config.client_auth[&HostPattern::parse("a.test").unwrap()];
    let authorities = auth.authorities.as_ref().unwrap();
    assert_eq!(authorities.ca_pem, b"ca");
    assert_eq!(authorities.crl_pem.as_deref(), Some(&b"crl"[..]));
    assert!(auth.passes_certificate);
    assert_eq!(auth.error_page.as_deref(), Some("https://login.test/"));
    assert_eq!(fixture.findings(), [""; 0]);
    let needs = needs(&fixture.snapshot, &fixture.options);
    let secrets: Vec<_> = needs.secrets.iter().map(ToString::to_string).collect();
    assert_eq!(secrets, ["Secret test/ca"]);
}

#[test]
fn modes_are_those_of_ingress_nginx() {
    for (text, expected) in [
        ("on", Some(VerifyMode::Required)),
        ("off", None),
        ("optional", Some(VerifyMode::Optional)),
        ("optional_no_ca", Some(VerifyMode::OptionalNoCa)),
        ("maybe", Some(VerifyMode::Required)),
    ] {
        let annotations = [("secret", "test/ca"), ("verify-client", text)];
        let fixture =
            Fixture::new()
                .with(good())
                .with(ingress(2020, "it", &["a.test"], &annotations));
        let config = fixture.translate().config;
        let found = config.client_auth.values().next().map(|auth| auth.mode);
        assert_eq!(found, expected, "{text}");
        assert_eq!(fixture.findings().len(), usize::from(text == "maybe"));
    }
}

#[test]
fn without_a_secret_nobody_is_asked() {
    let fixture = Fixture::new().with(ingress(
        2020,
        "it",
        &["a.test"],
        &[("verify-client", "on"), ("verify-depth", "0")],
    ));
    assert_eq!(asked(&fixture.translate().config), [""; 0]);
}

#[test]
fn a_secret_that_cannot_be_used_closes_its_hosts_and_no_others() {
    let key = "metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]";
    let match_cn = "metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-match-cn]";
    for (name, data, further, expected) in [
        (
            "test/other",
            json!({"ca.crt": "Y2E="}),
            None,
            format!("it {key} SecretNotFound"),
        ),
        (
            "test/ca",
            json!({}),
            None,
            format!("it {key} InvalidSecret"),
        ),
        (
            "test/ca",
            json!({"ca.crt": ""}),
            None,
            format!("it {key} InvalidSecret"),
        ),
        (
            "x/ca",
            json!({"ca.crt": "Y2E="}),
            None,
            format!("it {key} InvalidSecret"),
        ),
        (
            "ca",
            json!({"ca.crt": "Y2E="}),
            None,
            format!("it {key} InvalidAnnotation"),
        ),
        (
            "test/ca",
            json!({"ca.crt": "Y2E="}),
            Some(("match-cn", "CN=(")),
            format!("it {match_cn} InvalidAnnotation"),
        ),
    ] {
        let annotations: Vec<_> = [("secret", name)].into_iter().chain(further).collect();
        let fixture = Fixture::new()
            .with(secret(&data))
            .with(ingress(2020, "it", &["a.test"], &annotations))
            .with(ingress(2021, "other", &["b.test"], &[]));
        let config = fixture.translate().config;
        assert_eq!(asked(&config), ["a.test Required 1 closed"], "{name}");
        assert_eq!(fixture.findings(), [expected], "{name} {data}");
    }
}

/// A newer Ingress decides nothing about a host; its own rules stay closed rather than open.
#[test]
fn oldest_ingress_of_a_host_decides_about_its_client_certificates() {
    let on = [("secret", "test/ca")];
    let off = [("secret", "test/ca"), ("verify-client", "off")];
    let key = "metadata.annotations[nginx.ingress.kubernetes.io/auth-tls-secret]";
    let open = Fixture::new()
        .with(good())
        .with(ingress(2022, "young", &["a.test"], &off))
        .with(ingress(2021, "middle", &["a.test"], &on))
        .with(ingress(2020, "old", &["a.test"], &[]));
    assert_eq!(asked(&open.translate().config), [""; 0]);
    let conflict = format!("middle {key} ClientAuthConflict");
    assert_eq!(open.findings(), [conflict]);
    let closed = Fixture::new()
        .with(good())
        .with(ingress(2022, "young", &["a.test"], &off))
        .with(ingress(2021, "middle", &["a.test"], &on))
        .with(ingress(2020, "old", &["a.test"], &on));
    assert_eq!(asked(&closed.translate().config), ["a.test Required 1"]);
    let conflict = format!("young {key} ClientAuthConflict");
    assert_eq!(closed.findings(), [conflict]);
}

#[test]
fn an_ingress_without_rules_speaks_for_hosts_that_nobody_names() {
    let fixture =
        Fixture::new()
            .with(good())
            .with(ingress(2020, "it", &[], &[("secret", "test/ca")]));
    assert_eq!(asked(&fixture.translate().config), ["* Required 1"]);
}
