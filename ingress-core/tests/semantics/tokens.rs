//! Where the keys of JSON Web Tokens come from.

use ingress_core::ir::{Filter, HostPattern, JwtKeys, Target};
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

const SET: &str = r#"{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB"}]}"#;

fn asking(annotations: &Value) -> Value {
    let annotations = annotations.as_object().unwrap().iter();
    let annotations: serde_json::Map<_, _> = annotations
        .map(|(key, value)| (format!("sluice.dev/auth-jwt-{key}"), value.clone()))
        .collect();
    json!({
        "kind": "Ingress",
        "metadata": {"name": "shop", "annotations": annotations},
        "spec": {"ingressClassName": "sluice", "rules": [rule("a.test", &[("Prefix", "/", "web")])]},
    })
}

/// The keys that the rule asks for; `None`: it answers 503.
fn keys(fixture: &Fixture) -> Option<JwtKeys> {
    let config = fixture.translate().config;
    let rule = &config.hosts[&HostPattern::parse("a.test").unwrap()].rules[0];
    if rule.target == Target::Unavailable {
        return None;
    }
    let filters = rule.policy.filters.iter();
    let mut asked = filters.filter_map(|filter| {
        let Filter::Authenticate(asked) = filter else {
            return None;
        };
        asked.jwt.clone()
    });
    Some(asked.next().unwrap().keys.clone())
}

fn with(object: Value, annotations: &Value) -> Fixture {
    Fixture::new()
        .service("web")
        .with(object)
        .with(asking(annotations))
}

#[test]
fn keys_come_from_a_url_a_secret_or_a_config_map() {
    let url = json!({"jwks-url": "https://id.test/keys"});
    let fixture = Fixture::new().service("web").with(asking(&url));
    assert_eq!(fixture.findings(), [""; 0]);
    assert_eq!(
        keys(&fixture),
        Some(JwtKeys::Url("https://id.test/keys".into()))
    );

    // The set in base64.
    let data = "eyJrZXlzIjogW3sia3R5IjogIlJTQSIsICJuIjogIkFRQUIiLCAiZSI6ICJBUUFCIn1dfQ==";
    let secret = json!({"kind": "Secret", "metadata": {"name": "id"}, "data": {"jwks.json": data}});
    let fixture = with(secret, &json!({"jwks-secret": "id"}));
    assert_eq!(fixture.findings(), [""; 0]);
    assert_eq!(keys(&fixture), Some(JwtKeys::Set(SET.into())));

    let map = json!({"kind": "ConfigMap", "metadata": {"name": "id"}, "data": {"jwks.json": SET}});
    let fixture = with(map, &json!({"jwks-config-map": "test/id"}));
    assert_eq!(fixture.findings(), [""; 0]);
    assert_eq!(keys(&fixture), Some(JwtKeys::Set(SET.into())));
}

#[test]
fn rules_without_usable_keys_are_closed() {
    let map = |text: &str| json!({"kind": "ConfigMap", "metadata": {"name": "id"}, "data": {"jwks.json": text}});
    let other = json!({"kind": "ConfigMap", "metadata": {"name": "other"}, "data": {}});
    let elsewhere = json!({
        "kind": "ConfigMap",
        "metadata": {"name": "id", "namespace": "elsewhere"},
        "data": {"jwks.json": SET},
    });
    let named = json!({"jwks-config-map": "id"});
    for (object, annotations) in [
        (map("text"), &named),
        (map("{}"), &named),
        (map(r#"{"keys": [{"kty": "oct", "k": "AAAA"}]}"#), &named),
        (other.clone(), &named),
        (elsewhere, &json!({"jwks-config-map": "elsewhere/id"})),
        (other.clone(), &json!({"jwks-secret": "id"})),
        (other.clone(), &json!({"audience": "web"})),
        (
            other,
            &json!({"jwks-url": "https://id.test", "algorithms": "none"}),
        ),
    ] {
        let fixture = with(object, annotations);
        let findings = fixture.findings();
        assert_eq!(keys(&fixture), None, "{annotations}");
        assert_eq!(findings.len(), 1, "{annotations}: {findings:?}");
    }
}
