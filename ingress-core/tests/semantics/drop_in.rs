//! Annotations of ingress-nginx that join Ingresses with other objects and with each other.

use ingress_core::ir::{CanaryVote, Filter, HostPattern, ObjectRef, Rule, Target};
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn annotated(name: &str, year: u16, host: &str, service: &str, annotations: &Value) -> Value {
    let mut all = serde_json::Map::new();
    for (key, value) in annotations.as_object().unwrap() {
        all.insert(format!("nginx.ingress.kubernetes.io/{key}"), value.clone());
    }
    json!({
        "kind": "Ingress",
        "metadata": {
            "name": name,
            "creationTimestamp": format!("{year}-01-01T00:00:00Z"),
            "annotations": all,
        },
        "spec": {
            "ingressClassName": "sluice",
            "rules": [rule(host, &[("Prefix", "/", service)])],
        },
    })
}

fn rule_of(fixture: &Fixture, host: &str) -> Rule {
    let config = fixture.translate().config;
    let rules = &config.hosts[&HostPattern::parse(host).unwrap()];
    (*rules.rules[0]).clone()
}

#[test]
fn canaries_share_the_requests_of_the_main_rule() {
    let weight = json!({"canary": "true", "canary-weight": "30"});
    let header = json!({"canary": "true", "canary-by-header": "X-Canary"});
    let fixture = Fixture::new()
        .service("main")
        .service("one")
        .service("two")
        .with(annotated("one", 2020, "a.test", "one", &weight))
        .with(annotated("main", 2021, "a.test", "main", &json!({})))
        .with(annotated("two", 2022, "a.test", "two", &header));
    assert_eq!(fixture.findings(), [""; 0]);
    let rule = rule_of(&fixture, "a.test");
    let Target::Backends(backends) = &rule.target else {
        panic!("{rule:?}")
    };
    let services: Vec<_> = backends.iter().map(|one| &*one.key.service).collect();
    assert_eq!(services, ["main", "one", "two"]);
    let two = backends[2].canary.as_ref().unwrap();
    assert_eq!(two.vote(Some(b"always"), None), CanaryVote::Yes);
    assert_eq!(fixture.translate().config.backends.len(), 3);
}

#[test]
fn canary_has_the_sessions_of_the_main_rule_unless_it_has_its_own() {
    let cookies = |canary: &Value| {
        let main = json!({"affinity": "cookie", "session-cookie-name": "main"});
        let fixture = Fixture::new()
            .service("main")
            .service("one")
            .with(annotated("one", 2020, "a.test", "one", canary))
            .with(annotated("main", 2021, "a.test", "main", &main));
        assert_eq!(fixture.findings(), [""; 0]);
        let rule = rule_of(&fixture, "a.test");
        let backends = rule.target.backends().iter();
        let affinities = backends.map(|one| one.key.policy.affinity.clone());
        let cookies = affinities.map(|one| one.map(|one| one.cookie.to_string()));
        let backends = fixture.translate().config.backends;
        assert_eq!(backends.len(), 2);
        cookies.collect::<Vec<_>>()
    };
    let main = || Some("main".to_owned());
    let mut canary = json!({"canary": "true", "canary-weight": "30"});
    assert_eq!(cookies(&canary), [main(), main()]);
    canary["affinity-canary-behavior"] = "legacy".into();
    assert_eq!(cookies(&canary), [main(), None]);
    canary["affinity"] = "cookie".into();
    canary["session-cookie-name"] = "own".into();
    assert_eq!(cookies(&canary), [main(), Some("own".to_owned())]);
    canary["affinity-canary-behavior"] = "sticky".into();
    assert_eq!(cookies(&canary), [main(), main()]);
}

#[test]
fn canary_without_a_main_rule_gets_nothing() {
    let canary = json!({"canary": "true", "canary-weight": "30"});
    let fixture = Fixture::new()
        .service("one")
        .with(annotated("one", 2020, "a.test", "one", &canary));
    let reasons = fixture.findings();
    assert_eq!(reasons, ["one spec.rules[0].http.paths[0] CanaryIgnored"]);
    assert_eq!(fixture.answers().ask("a.test", "/"), "404");
}

#[test]
fn alias_is_a_host_unless_another_ingress_names_it() {
    let alias = json!({"server-alias": "b.test, c.test"});
    let fixture = Fixture::new()
        .service("one")
        .service("two")
        .with(annotated("one", 2020, "a.test", "one", &alias))
        .with(annotated("two", 2021, "c.test", "two", &json!({})));
    let answers = fixture.answers();
    assert_eq!(answers.ask("b.test", "/x"), "one:80");
    assert_eq!(answers.ask("c.test", "/x"), "two:80");
    let finding = "one metadata.annotations[server-alias] HostConflict";
    assert_eq!(fixture.findings(), [finding]);
}

#[test]
fn www_is_redirected_unless_an_ingress_names_it() {
    let www = json!({"from-to-www-redirect": "true"});
    let fixture = Fixture::new()
        .service("one")
        .with(annotated("one", 2020, "a.test", "one", &www))
        .with(annotated("two", 2020, "www.b.test", "one", &www))
        .with(annotated("three", 2020, "c.test", "one", &www))
        .with(annotated("four", 2020, "www.c.test", "one", &json!({})));
    let redirect = |host: &str| match &*rule_of(&fixture, host).policy.filters {
        [Filter::HostRedirect(redirect)] => Some(redirect.host.to_string()),
        _ => None,
    };
    assert_eq!(redirect("www.a.test").as_deref(), Some("a.test"));
    assert_eq!(redirect("b.test").as_deref(), Some("www.b.test"));
    assert_eq!(redirect("www.c.test"), None);
}

fn secret(name: &str, data: &Value) -> Value {
    json!({"kind": "Secret", "metadata": {"name": name}, "data": data})
}

#[test]
fn users_come_from_the_secret_and_routes_are_closed_without_it() {
    let basic = json!({"auth-type": "basic", "auth-secret": "users"});
    let fixture = Fixture::new()
        .service("one")
        .with(annotated("one", 2020, "a.test", "one", &basic));
    assert_eq!(fixture.answers().ask("a.test", "/"), "503");
    let finding = "one metadata.annotations[auth-secret] SecretNotFound";
    assert_eq!(fixture.findings(), [finding]);
    // ann:{SHA}x
    let fixture = fixture.with(secret("users", &json!({"auth": "YW5uOntTSEF9eA=="})));
    assert_eq!(fixture.answers().ask("a.test", "/"), "one:80");
    let rule = rule_of(&fixture, "a.test");
    let [Filter::Authenticate(asked)] = &*rule.policy.filters else {
        panic!("{rule:?}")
    };
    let users = &asked.basic.as_ref().unwrap().users;
    assert_eq!(
        users.0.keys().map(|user| &**user).collect::<Vec<_>>(),
        ["ann"]
    );
    for other in ["other/users", "a/b/c", ""] {
        let basic = json!({"auth-type": "basic", "auth-secret": other});
        let fixture = Fixture::new()
            .service("one")
            .with(secret("users", &json!({"auth": "YW5uOntTSEF9eA=="})))
            .with(annotated("one", 2020, "a.test", "one", &basic));
        assert_eq!(fixture.answers().ask("a.test", "/"), "503", "{other}");
    }
    let without = Fixture::new().service("one").with(annotated(
        "one",
        2020,
        "a.test",
        "one",
        &json!({"auth-type": "basic"}),
    ));
    assert_eq!(without.answers().ask("a.test", "/"), "503");
}

#[test]
fn redirect_of_an_ingress_comes_before_everything_that_restricts_access() {
    let redirected = json!({
        "permanent-redirect": "https://b.test",
        "whitelist-source-range": "10.0.0.0/8",
        "limit-rps": "1",
        "auth-url": "http://auth.test/",
    });
    let fixture =
        Fixture::new()
            .service("one")
            .with(annotated("one", 2020, "a.test", "one", &redirected));
    assert_eq!(fixture.answers().ask("a.test", "/"), "301 https://b.test");
    assert_eq!(*rule_of(&fixture, "a.test").policy.filters, []);
}

#[test]
fn filters_stand_in_the_order_of_nginx() {
    let all = json!({
        "app-root": "/app",
        "enable-cors": "true",
        "limit-rps": "1",
        "whitelist-source-range": "10.0.0.0/8",
        "auth-url": "http://auth.test/",
        "satisfy": "any",
        "upstream-vhost": "b.test",
        "proxy-cookie-path": "/a /b",
    });
    let fixture = Fixture::new()
        .service("one")
        .with(annotated("one", 2020, "a.test", "one", &all));
    assert_eq!(fixture.findings(), [""; 0]);
    let rule = rule_of(&fixture, "a.test");
    let names = rule.policy.filters.iter().map(|filter| {
        let text = format!("{filter:?}");
        text.split('(').next().unwrap().to_owned()
    });
    let names: Vec<_> = names.collect();
    let expected = [
        "AppRoot",
        "Cors",
        "RateLimit",
        "Authenticate",
        "UpstreamHost",
        "ResponseRewrite",
    ];
    assert_eq!(names, expected);
}

#[test]
fn service_upstream_is_the_address_of_the_service() {
    let service = json!({"kind": "Service", "metadata": {"name": "one"}, "spec": {
        "clusterIP": "10.96.0.1",
        "clusterIPs": ["10.96.0.1", "fd00::1"],
        "ports": [{"port": 80, "targetPort": 8080}],
    }});
    let asked = json!({"service-upstream": "true"});
    let fixture = Fixture::new()
        .with(service)
        .slice("one", &json!([{"port": 8080}]), &["10.0.0.1"])
        .with(annotated("one", 2020, "a.test", "one", &asked));
    assert_eq!(fixture.endpoints(), ["10.96.0.1:80"]);
}

#[test]
fn default_backend_is_the_first_port_of_its_service() {
    let asked = json!({"default-backend": "errors", "custom-http-errors": "404,503"});
    let fixture = Fixture::new()
        .service("one")
        .service("errors")
        .with(annotated("one", 2020, "a.test", "one", &asked));
    let pages = rule_of(&fixture, "a.test")
        .policy
        .error_pages
        .clone()
        .unwrap();
    assert_eq!(*pages.statuses, [404, 503]);
    let backend = pages.backend.as_ref().unwrap();
    assert_eq!(backend.to_string(), "test/errors:80");
    assert!(fixture.translate().config.backends.get(backend).is_some());
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

fn object(kind: &'static str, name: &str) -> ObjectRef {
    ObjectRef {
        kind,
        namespace: "test".into(),
        name: name.into(),
    }
}

#[test]
fn config_map_of_the_controller_holds_for_all_ingresses_unless_they_say_otherwise() {
    let data = json!({
        "enable-cors": "true",
        "proxy-body-size": "8m",
        "use-forwarded-headers": "true",
        "keep-alive": "20",
        "worker-processes": "4",
        "reuse-port": "false",
        "add-headers": "test/headers",
        "typo": "1",
    });
    let own = json!({"proxy-body-size": "1m"});
    let mut fixture = Fixture::new()
        .service("one")
        .with(config_map("controller", &data))
        .with(config_map("headers", &json!({"X-Frame-Options": "DENY"})))
        .with(annotated("one", 2020, "a.test", "one", &json!({})))
        .with(annotated("two", 2021, "b.test", "one", &own));
    fixture.options.config_map = Some(object("ConfigMap", "controller"));
    assert_eq!(
        fixture.findings(),
        [
            "controller data[typo] UnknownParameter",
            "controller data[use-forwarded-headers] InvalidAnnotation",
            "controller data[worker-processes] UnknownParameter",
        ]
    );
    let process = fixture.translate().config.process;
    assert_eq!(process.use_forwarded_headers, Some(true));
    assert_eq!(process.keep_alive, Some(20));
    fixture.options.trusts_peers = true;
    assert_eq!(fixture.findings().len(), 2, "a flag names peers");
    let policy = rule_of(&fixture, "a.test").policy;
    assert_eq!(policy.body_bytes_max, Some(8 << 20));
    let [Filter::Cors(_), Filter::ResponseHeaders(fields)] = &*policy.filters else {
        panic!("{policy:?}")
    };
    assert_eq!(**fields, [("x-frame-options".into(), "DENY".into())]);
    let policy = rule_of(&fixture, "b.test").policy;
    assert_eq!(policy.body_bytes_max, Some(1 << 20));
}

#[test]
fn default_certificate_is_that_of_every_host_without_one() {
    let data = json!({"tls.crt": "Y3J0", "tls.key": "a2V5"});
    let mut fixture =
        Fixture::new()
            .service("one")
            .with(annotated("one", 2020, "a.test", "one", &json!({})));
    fixture.options.default_certificate = Some(object("Secret", "wildcard"));
    assert_eq!(fixture.findings(), ["wildcard data SecretNotFound"]);
    let fixture = fixture.with(secret("wildcard", &data));
    assert_eq!(fixture.findings(), [""; 0]);
    let certificates = fixture.translate().config.certificates;
    assert_eq!(*certificates[&HostPattern::Any].chain_pem, *b"crt");
}
