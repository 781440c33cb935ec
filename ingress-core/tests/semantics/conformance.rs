//! The routing scenarios of `ingress-controller-conformance` (Kubernetes SIG Network, Apache-2.0).

use ingress_core::ir::HostPattern;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::fixture::Fixture;

#[derive(Deserialize)]
struct Suite {
    scenarios: Vec<Scenario>,
}

#[derive(Deserialize)]
struct Scenario {
    name: String,
    spec: Value,
    requests: Vec<Request>,
    ours: Option<bool>,
    endpoints: Option<usize>,
}

#[derive(Deserialize)]
struct Request {
    id: String,
    host: String,
    path: String,
    status: u16,
    service: Option<String>,
    certificate: Option<String>,
}

#[test]
fn every_scenario_is_served_as_the_suite_expects() {
    let suite: Suite =
        serde_json::from_str(include_str!("../data/ingress-conformance.json")).unwrap();
    let mut asked = 0;
    for scenario in suite.scenarios {
        let fixture = fixture(&scenario);
        let config = fixture.translate().config;
        let answers = fixture.answers();
        for request in &scenario.requests {
            let Request {
                id,
                host,
                path,
                status,
                service,
                certificate,
            } = request;
            let answer = answers.ask(host, path);
            match status {
                200 => assert_eq!(answer.split(':').next(), service.as_deref(), "{id}"),
                _ => assert_eq!(answer, status.to_string(), "{id}"),
            }
            if let Some(host) = certificate {
                assert!(
                    config
                        .certificates
                        .contains_key(&HostPattern::parse(host).unwrap()),
                    "{id}"
                );
            }
            asked += 1;
        }
        for backend in config.backends.values() {
            assert_eq!(
                backend.endpoints.len(),
                scenario.endpoints.unwrap_or(1),
                "{backend:?}"
            );
        }
        let ours = scenario.ours.unwrap_or(true);
        assert_eq!(config.backends.is_empty(), !ours, "{}", scenario.name);
        let findings = fixture.findings();
        let is_class_unknown = |finding: &String| finding.ends_with(" UnknownClass");
        assert_eq!(findings.is_empty(), ours, "{}: {findings:?}", scenario.name);
        assert!(findings.iter().all(is_class_unknown), "{findings:?}");
    }
    assert_eq!(
        asked, 30,
        "the suite has 28 requests, and two scenarios without any get one"
    );
}

fn fixture(scenario: &Scenario) -> Fixture {
    let secret = json!({
        "kind": "Secret",
        "metadata": {"name": "conformance-tls"},
        "type": "kubernetes.io/tls",
        "data": {"tls.crt": "Y3J0", "tls.key": "a2V5"},
    });
    let mut fixture = match scenario.spec.get("ingressClassName") {
        Some(_) => Fixture::new().with(json!({
            "kind": "Ingress", "metadata": {"name": scenario.name}, "spec": scenario.spec,
        })),
        None => Fixture::new().ingress(&scenario.name, scenario.spec.clone()),
    };
    let addresses: Vec<_> = (1..=scenario.endpoints.unwrap_or(1))
        .map(|n| format!("10.0.0.{n}"))
        .collect();
    let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
    for service in services(&scenario.spec) {
        let ports = json!([{"name": "http", "port": 8080, "targetPort": 3000}]);
        fixture = fixture.service_with(&service, &ports).slice(
            &service,
            &json!([{"name": "http", "port": 3000}]),
            &addresses,
        );
    }
    fixture.with(secret)
}

/// Every `service.name` in a specification.
fn services(spec: &Value) -> std::collections::BTreeSet<String> {
    let default = spec.get("defaultBackend").into_iter();
    let rules = spec
        .get("rules")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let paths = rules
        .filter_map(|rule| rule["http"]["paths"].as_array())
        .flatten();
    let backends = default.chain(paths.map(|path| &path["backend"]));
    backends
        .map(|backend| backend["service"]["name"].as_str().unwrap().to_owned())
        .collect()
}
