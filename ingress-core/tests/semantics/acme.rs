//! The annotation `acme`: which certificates are ordered, for whom, and what is refused.

use ingress_core::acme::{STATE_KEY, State, Wanted};
use ingress_core::ir::ObjectRef;
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn fixture() -> Fixture {
    let mut fixture = Fixture::new();
    fixture.options.acme_issuers = ["le".into(), "staging".into()].into();
    fixture.options.acme_state = Some(ObjectRef {
        kind: "Secret",
        namespace: "system".into(),
        name: "state".into(),
    });
    fixture
}

/// An Ingress of this year that asks `issuer` for the certificate of its one TLS section.
fn ingress(year: u16, name: &str, issuer: &str, tls: &[&str], rules: &[&str]) -> Value {
    let rules: Vec<_> = rules.iter().map(|host| rule(host, &[])).collect();
    json!({
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
            "annotations": {"sluice.dev/acme": issuer},
        },
        "spec": {
            "ingressClassName": "sluice",
            "tls": [{"hosts": tls, "secretName": "cert"}],
            "rules": rules,
        },
    })
}

fn secret(name: &str, annotations: &Value) -> Value {
    json!({
        "kind": "Secret",
        "metadata": {"name": name, "annotations": annotations},
        "data": {"tls.crt": "Y3J0", "tls.key": "a2V5"},
    })
}

/// The certificates that are wanted, as `namespace/secret issuer hosts`.
fn wanted(fixture: &Fixture) -> Vec<String> {
    let wanted = fixture.translate().certificates_wanted;
    let text = |one: &Wanted| {
        let hosts: Vec<_> = one.hosts.iter().map(ToString::to_string).collect();
        format!("{} {} {}", one.key(), one.issuer, hosts.join(","))
    };
    wanted.iter().map(text).collect()
}

#[test]
fn certificate_is_ordered_for_the_hosts_of_a_tls_section() {
    let hosts = ["B.test", "a.test"];
    let fixture = fixture().with(ingress(2020, "it", "le", &hosts, &["a.test", "b.test"]));
    assert_eq!(wanted(&fixture), ["test/cert le a.test,b.test"]);
    assert_eq!(
        fixture.findings(),
        [""; 0],
        "a Secret to come is not missing"
    );
    let plain = Fixture::new().ingress("it", json!({"rules": [rule("a.test", &[])]}));
    assert_eq!(wanted(&plain), [""; 0]);
    assert_eq!(plain.translate().config.acme, None);
}

#[test]
fn unknown_issuer_is_reported_and_nothing_is_ordered() {
    let fixture = fixture().with(ingress(2020, "it", "other", &["a.test"], &["a.test"]));
    assert_eq!(wanted(&fixture), [""; 0]);
    let expected = [
        "it metadata.annotations[sluice.dev/acme] UnknownIssuer",
        "it spec.tls[0].secretName SecretNotFound",
    ];
    assert_eq!(fixture.findings(), expected);
}

#[test]
fn host_of_another_ingress_is_not_ordered() {
    let fixture = fixture()
        .ingress_of(2019, "owner", json!({"rules": [rule("a.test", &[])]}))
        .with(ingress(
            2020,
            "it",
            "le",
            &["a.test", "b.test", "c.test"],
            &["a.test", "b.test"],
        ));
    assert_eq!(wanted(&fixture), ["test/cert le b.test"]);
    let refused = "it spec.tls[0].hosts CertificateNotOrdered";
    assert_eq!(fixture.findings(), [refused, refused]);
}

#[test]
fn ingresses_of_one_host_that_ask_for_the_same_are_one_order() {
    let fixture = fixture()
        .with(ingress(2019, "first", "le", &["a.test"], &["a.test"]))
        .with(ingress(2020, "second", "le", &["a.test"], &["a.test"]));
    assert_eq!(wanted(&fixture), ["test/cert le a.test"]);
    assert_eq!(fixture.findings(), [""; 0]);
    let fixture = fixture.with(ingress(2021, "third", "staging", &["b.test"], &["b.test"]));
    assert_eq!(wanted(&fixture), ["test/cert le a.test"]);
    let conflict = "third spec.tls[0].secretName CertificateConflict";
    assert_eq!(fixture.findings(), [conflict]);
}

#[test]
fn wildcards_and_sections_without_a_secret_are_reported() {
    let wild = fixture().with(ingress(2020, "it", "le", &["*.a.test"], &["*.a.test"]));
    assert_eq!(wanted(&wild), [""; 0]);
    let refused = "it spec.tls[0].hosts CertificateNotOrdered";
    let missing = "it spec.tls[0].secretName SecretNotFound";
    assert_eq!(wild.findings(), [refused, missing]);
    let mut nameless = ingress(2020, "it", "le", &["a.test"], &["a.test"]);
    nameless["spec"]["tls"] = json!([{"hosts": ["a.test"]}]);
    let nameless = fixture().with(nameless);
    assert_eq!(nameless.findings(), ["it spec.tls CertificateNotOrdered"]);
}

#[test]
fn hosts_beside_those_of_rules_are_ordered_with_them() {
    let mut object = ingress(
        2020,
        "it",
        "le",
        &["a.test", "www.a.test", "b.test"],
        &["a.test"],
    );
    let annotations = &mut object["metadata"]["annotations"];
    annotations["sluice.dev/from-to-www-redirect"] = "true".into();
    annotations["sluice.dev/server-alias"] = "b.test".into();
    object["spec"]["rules"] = json!([rule("a.test", &[("Prefix", "/", "web")])]);
    let fixture = fixture().service("web").with(object);
    assert_eq!(wanted(&fixture), ["test/cert le a.test,b.test,www.a.test"]);
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn secret_of_somebody_else_is_left_alone_and_ours_tells_its_renewal() {
    let object = || ingress(2020, "it", "le", &["a.test"], &["a.test"]);
    let foreign = fixture().with(object()).with(secret("cert", &json!({})));
    let finding = "it spec.tls[0].secretName CertificateNotOrdered";
    assert_eq!(foreign.findings(), [finding]);
    assert!(
        foreign
            .translate()
            .config
            .acme
            .unwrap()
            .certificates
            .is_empty()
    );
    let marks = json!({
        "sluice.dev/acme-issuer": "le",
        "sluice.dev/acme-renew-at": "2030-01-01T00:00:00Z",
    });
    let ours = fixture().with(object()).with(secret("cert", &marks));
    assert_eq!(ours.findings(), [""; 0]);
    let acme = ours.translate().config.acme.unwrap();
    assert_eq!(acme.certificates[0].renews_at, Some(1_893_456_000));
}

#[test]
fn failure_in_the_state_is_reported_on_the_ingress() {
    let fixture = fixture().with(ingress(2020, "it", "le", &["a.test"], &["a.test"]));
    let order = fixture.translate().certificates_wanted[0].clone();
    let limits = ingress_core::acme::Limits {
        orders_per_hour: 1,
        first_retry: 300,
    };
    let mut state = State::default();
    state.fail(&order, "no address for a.test", limits, 0, 0);
    let value = serde_json::to_value(ByteString(state.write())).unwrap();
    let fixture = fixture.with(json!({
        "kind": "Secret",
        "metadata": {"name": "state", "namespace": "system"},
        "data": {STATE_KEY: value},
    }));
    let translation = fixture.translate();
    let [diagnostic] = &translation.diagnostics[..] else {
        panic!("{:?}", translation.diagnostics);
    };
    assert_eq!(diagnostic.field, "spec.tls[0].secretName");
    let expected = "issuer `le` issued no certificate: no address for a.test; attempt 1 failed, the \
                    next follows at 1970-01-01T00:05:00Z";
    assert_eq!(diagnostic.message, expected);
}

#[test]
fn unreadable_state_takes_nothing_away() {
    let fixture = fixture()
        .with(ingress(2020, "it", "le", &["a.test"], &["a.test"]))
        .with(json!({
            "kind": "Secret",
            "metadata": {"name": "state", "namespace": "system"},
            "data": {STATE_KEY: "e30x"},
        }));
    assert_eq!(wanted(&fixture), ["test/cert le a.test"]);
    assert_eq!(fixture.findings(), ["state data InvalidSecret"]);
}
