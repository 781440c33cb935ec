//! TLS sections and Secrets.

use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn secret(name: &str) -> Value {
    json!({
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "Y3J0", "tls.key": "a2V5"},
    })
}

/// The certificates as `host secret`.
fn certificates(fixture: &Fixture) -> Vec<String> {
    let certificates = fixture.translate().config.certificates.into_iter();
    certificates
        .map(|(host, one)| format!("{host} {}", one.secret.name))
        .collect()
}

fn tls(hosts: &[&str], secret: &str, rule_hosts: &[&str]) -> Value {
    let rules: Vec<_> = rule_hosts.iter().map(|host| rule(host, &[])).collect();
    json!({"tls": [{"hosts": hosts, "secretName": secret}], "rules": rules})
}

#[test]
fn hosts_of_a_section_get_its_certificate() {
    let fixture = Fixture::new()
        .with(secret("s"))
        .ingress("it", tls(&["A.test", "*.b.test"], "s", &["c.test"]));
    assert_eq!(certificates(&fixture), ["a.test s", "*.b.test s"]);
    assert_eq!(fixture.findings(), [""; 0]);
    let (_, certificate) = fixture
        .translate()
        .config
        .certificates
        .into_iter()
        .next()
        .unwrap();
    assert_eq!(certificate.chain_pem, b"crt");
    assert_eq!(certificate.key_pem, b"key");
    assert!(!format!("{certificate:?}").contains("key_pem"));
}

#[test]
fn a_section_without_hosts_is_for_the_hosts_of_the_rules() {
    let of = |rule_hosts: &[&str]| {
        Fixture::new()
            .with(secret("s"))
            .ingress("it", tls(&[], "s", rule_hosts))
    };
    assert_eq!(
        certificates(&of(&["a.test", "b.test"])),
        ["a.test s", "b.test s"]
    );
    assert_eq!(certificates(&of(&["a.test", ""])), ["a.test s", "* s"]);
    assert_eq!(certificates(&of(&[])), ["* s"]);
}

#[test]
fn a_section_without_secret_asks_for_the_default_certificate() {
    let fixture = Fixture::new().ingress("it", json!({"tls": [{"hosts": ["a.test"]}]}));
    assert_eq!(certificates(&fixture), [""; 0]);
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn a_secret_that_cannot_be_used_is_reported() {
    let broken = |change: fn(&mut Value)| {
        let mut secret = secret("s");
        change(&mut secret);
        Fixture::new()
            .with(secret)
            .ingress("it", tls(&["a.test"], "s", &[]))
    };
    let invalid = "it spec.tls[0].secretName InvalidSecret";
    for (fixture, expected) in [
        (
            broken(|secret| secret["metadata"]["name"] = "t".into()),
            "it spec.tls[0].secretName SecretNotFound",
        ),
        (
            broken(|secret| secret["metadata"]["namespace"] = "x".into()),
            "it spec.tls[0].secretName SecretNotFound",
        ),
        (
            broken(|secret| secret["data"] = json!({"tls.crt": "Y3J0"})),
            invalid,
        ),
        (
            broken(|secret| secret["data"] = json!({"tls.crt": "", "tls.key": "a2V5"})),
            invalid,
        ),
    ] {
        let certificates = fixture.translate().config.certificates;
        let (_, only) = certificates.into_iter().next().unwrap();
        assert!(
            only.is_absent(),
            "claims its host, so that the last one stays"
        );
        assert_eq!(fixture.findings(), [expected]);
    }
}

#[test]
fn the_oldest_usable_certificate_of_a_host_wins() {
    let fixture = Fixture::new()
        .with(secret("old"))
        .with(secret("new"))
        .ingress_of(2019, "missing", tls(&["a.test"], "nope", &[]))
        .ingress_of(2021, "new", tls(&["a.test", "b.test"], "new", &[]))
        .ingress_of(2020, "old", tls(&["a.test"], "old", &[]));
    assert_eq!(certificates(&fixture), ["a.test old", "b.test new"]);
    assert_eq!(
        fixture.findings(),
        [
            "missing spec.tls[0].secretName SecretNotFound",
            "new spec.tls[0].secretName CertificateConflict"
        ]
    );
}

#[test]
fn an_invalid_host_takes_nothing_from_the_others() {
    let fixture = Fixture::new()
        .with(secret("s"))
        .ingress("it", tls(&["a b", "a.test"], "s", &["c.test"]));
    assert_eq!(certificates(&fixture), ["a.test s"]);
    assert_eq!(fixture.findings(), ["it spec.tls[0].hosts[0] InvalidHost"]);
    let fixture = Fixture::new()
        .with(secret("s"))
        .ingress("it", tls(&["a b"], "s", &["c.test"]));
    assert_eq!(
        certificates(&fixture),
        [""; 0],
        "it is no section without hosts"
    );
}

#[test]
fn one_ingress_may_name_two_certificates_for_a_host() {
    let section = |secret: &str| json!({"hosts": ["a.test"], "secretName": secret});
    let sections = |secrets: &[&str]| {
        let sections: Vec<_> = secrets.iter().map(|secret| section(secret)).collect();
        json!({"tls": sections, "rules": [rule("a.test", &[])]})
    };
    let fixture = Fixture::new()
        .with(secret("ecdsa"))
        .with(secret("rsa"))
        .with(secret("third"))
        .ingress("it", sections(&["ecdsa", "rsa", "ecdsa"]))
        .ingress("later", sections(&["rsa"]));
    let certificates = fixture.translate().config.certificates;
    let certificate = certificates.values().next().unwrap();
    let alternative = certificate.alternative.as_ref().unwrap();
    assert_eq!(&*certificate.secret.name, "ecdsa");
    assert_eq!(&*alternative.secret.name, "rsa");
    assert_eq!(fixture.findings(), [""; 0]);
    let third = fixture.ingress("last", sections(&["third"]));
    assert_eq!(third.findings().len(), 1, "somebody else has it");
}
