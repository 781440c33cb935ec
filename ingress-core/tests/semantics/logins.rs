//! Logins at an OpenID provider: the account of the Secret, and rules for the paths that are the proxy's own.

use std::sync::Arc;

use ingress_core::explain::{Question, explain};
use ingress_core::ir::{Config, HostPattern, OidcAuth, Rule, Target};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::any_login;
use crate::fixture::{Fixture, rule};

/// `sluice`, `s3cret` and 32 bytes, in base64.
fn secret() -> Value {
    json!({"kind": "Secret", "metadata": {"name": "login"}, "data": {
        "client-id": "c2x1aWNl",
        "client-secret": "czNjcmV0",
        "cookie-secret": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    }})
}

fn asking(name: &str, annotations: &[(&str, &str)], rules: &Value) -> Value {
    let usual = [("issuer", "https://id.test"), ("secret", "login")];
    let annotations = usual.iter().chain(annotations);
    let annotations: serde_json::Map<_, _> = annotations
        .map(|(key, value)| (format!("sluice.dev/auth-oidc-{key}"), (*value).into()))
        .collect();
    json!({
        "kind": "Ingress",
        "metadata": {"name": name, "annotations": annotations},
        "spec": {"ingressClassName": "sluice", "rules": rules},
    })
}

fn rules_of<'a>(config: &'a Config, host: &str) -> &'a [Arc<Rule>] {
    let host = HostPattern::parse(host).unwrap();
    &config.hosts[&host].rules
}

/// What the rule of a path asks for, if it lets anybody in.
fn login(config: &Config, host: &str, path: &str) -> Option<Arc<OidcAuth>> {
    let mut rules = rules_of(config, host).iter();
    let rule = rules.find(|rule| rule.matches.path.matches(path)).unwrap();
    rule.policy.oidc().cloned()
}

#[test]
fn an_ingress_asks_for_logins_with_the_account_of_its_secret() {
    let rules = json!([rule("a.test", &[("Prefix", "/app", "web")])]);
    let fixture = Fixture::new()
        .service("web")
        .with(secret())
        .with(asking("shop", &[], &rules));
    assert_eq!(fixture.findings(), [""; 0]);
    let config = fixture.translate().config;
    for path in ["/app", "/oauth2/callback", "/oauth2/logout"] {
        let login = login(&config, "a.test", path).unwrap();
        let client = login.client.as_ref().unwrap();
        assert_eq!(
            (&*client.id, &*client.secret),
            ("sluice", "s3cret"),
            "{path}"
        );
        assert_eq!(client.cookie_secret.len(), 32);
    }
    let answers = fixture.answers();
    assert_eq!(answers.ask("a.test", "/oauth2/callback/x"), "404");
    assert_eq!(answers.ask("b.test", "/oauth2/callback"), "404");
    let question = Question::new("a.test", "/oauth2/callback?code=x");
    let explanation = explain(&fixture.snapshot, &fixture.options, &question);
    assert_eq!(explanation.passage.checks, ["authentication"]);
}

#[test]
fn paths_of_logins_are_on_every_host_and_more_specific_than_others() {
    let rules = json!([
        rule("a.test", &[("Prefix", "/", "web")]),
        rule(
            "*.b.test",
            &[("Prefix", "/x", "web"), ("Exact", "/in", "web")]
        ),
    ]);
    let own = [("callback-path", "/in"), ("logout-path", "/out")];
    let other =
        json!({"rules": [rule("a.test", &[("Prefix", "/i", "web"), ("Prefix", "/out", "web")])]});
    let fixture = Fixture::new()
        .service("web")
        .with(secret())
        .with(asking("shop", &own, &rules))
        .ingress("other", other);
    assert_eq!(fixture.findings(), [""; 0]);
    let config = fixture.translate().config;
    for (host, path) in [
        ("a.test", "/in"),
        ("a.test", "/out"),
        ("*.b.test", "/in"),
        ("*.b.test", "/out"),
    ] {
        assert!(login(&config, host, path).is_some(), "{host} {path}");
    }
    assert!(login(&config, "a.test", "/out/x").is_none(), "the other's");
    assert_eq!(
        rules_of(&config, "*.b.test").len(),
        3,
        "one path is there already"
    );
}

#[test]
fn paths_of_logins_stay_what_they_are_where_others_are_expressions() {
    let mut ingress = asking(
        "shop",
        &[],
        &json!([rule("a.test", &[("ImplementationSpecific", "/a.*", "web")])]),
    );
    ingress["metadata"]["annotations"]["sluice.dev/use-regex"] = "true".into();
    let mut fixture = Fixture::new().service("web").with(secret()).with(ingress);
    fixture.options.compat = ingress_core::translate::Compat::IngressNginx;
    let config = fixture.translate().config;
    let matching = |path: &str| {
        let rules = rules_of(&config, "a.test").iter();
        rules.filter(|rule| rule.matches.path.matches(path)).count()
    };
    assert_eq!(matching("/oauth2/callback"), 1);
    assert_eq!(matching("/oauth2/callbacks"), 0);
    assert_eq!(matching("/OAUTH2/callback"), 0);
}

#[test]
fn ingresses_of_one_host_share_logins_if_they_ask_for_the_same() {
    let at = |path: &str| json!([rule("a.test", &[("Prefix", path, "web")])]);
    let both = |annotations: &[(&str, &str)]| {
        Fixture::new()
            .service("web")
            .with(secret())
            .with(asking(
                "a",
                &[("claims-to-headers", "sub: X-User")],
                &at("/a"),
            ))
            .with(asking("b", annotations, &at("/b")))
            .findings()
    };
    assert_eq!(both(&[("claims-to-headers", "sub: X-Name")]), [""; 0]);
    let conflicts = [
        "b metadata.annotations[auth-oidc-callback-path] PathConflict",
        "b metadata.annotations[auth-oidc-logout-path] PathConflict",
    ];
    assert_eq!(both(&[("claims-to-headers", "email: X-User")]), conflicts);
    assert_eq!(
        both(&[("claims-to-headers", "sub: X-User"), ("groups", "admin")]),
        conflicts
    );
    let others = [
        ("callback-path", "/b/in"),
        ("logout-path", "/b/out"),
        ("groups", "admin"),
    ];
    assert_eq!(both(&others), [""; 0]);
}

#[test]
fn rules_without_a_usable_account_are_closed_and_others_are_served() {
    let rules = json!([rule("a.test", &[("Prefix", "/", "web")])]);
    let mut short = secret();
    short["data"]["cookie-secret"] = "c2hvcnQ=".into();
    let mut elsewhere = secret();
    elsewhere["metadata"]["namespace"] = "elsewhere".into();
    for (secret, annotations, finding) in [
        (short, vec![], "auth-oidc-secret] InvalidSecret"),
        (
            elsewhere.clone(),
            vec![],
            "auth-oidc-secret] SecretNotFound",
        ),
        (
            elsewhere,
            vec![("secret", "elsewhere/login")],
            "auth-oidc-secret] InvalidSecret",
        ),
        (
            secret(),
            vec![("issuer", "id.test")],
            "sluice.dev/auth-oidc-issuer] RestrictionNotHonoured",
        ),
        (
            secret(),
            vec![("logout-path", "/oauth2/callback")],
            "auth-oidc-logout-path] RestrictionNotHonoured",
        ),
        (
            secret(),
            vec![("group", "admin")],
            "sluice.dev/auth-oidc-group] RestrictionNotHonoured",
        ),
    ] {
        let other = json!({"rules": [rule("b.test", &[("Prefix", "/", "web")])]});
        let fixture = Fixture::new()
            .service("web")
            .with(secret)
            .with(asking("shop", &annotations, &rules))
            .ingress("other", other);
        assert_eq!(
            fixture.findings(),
            [format!("shop metadata.annotations[{finding}")]
        );
        let config = fixture.translate().config;
        for rule in rules_of(&config, "a.test") {
            assert_eq!(rule.target, Target::Unavailable, "{finding}");
        }
        assert_eq!(fixture.answers().ask("b.test", "/"), "web:80");
    }
}

proptest! {
    #[test]
    fn whatever_is_sent_for_a_login_is_read_or_refused(bytes: Vec<u8>, text in "[ -~]{0,200}") {
        any_login::check(&bytes);
        any_login::check(text.as_bytes());
    }

    #[test]
    fn cookies_of_logins_are_left_out_wherever_they_stand(
        parts in prop::collection::vec("(__Host-|__Secure-|)(sluice-oidc-|sluice-|)[a-z]{0,3}(=[a-z;]{0,3}|)", 0..6)
    ) {
        any_login::check(parts.join("; ").as_bytes());
    }
}
