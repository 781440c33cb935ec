//! Which endpoints of a Service take requests.

use ingress_core::ir::Endpoint;
use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

/// A Service `web` with the families that it prefers.
fn fixture(families: &Value) -> Fixture {
    let spec = json!({"ports": [{"port": 80}], "ipFamilies": families});
    Fixture::new()
        .ingress(
            "it",
            json!({"rules": [rule("a.test", &[("Prefix", "/", "web")])]}),
        )
        .with(json!({"kind": "Service", "metadata": {"name": "web"}, "spec": spec}))
}

fn slice(family: &str, endpoints: &Value) -> Value {
    json!({
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("web-{family}"),
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": family,
        "ports": [{"port": 8080}],
        "endpoints": endpoints,
    })
}

fn endpoint(address: &str, ready: bool, serving: bool, terminating: bool) -> Value {
    json!({
        "addresses": [address],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    })
}

fn draining(fixture: &Fixture) -> Vec<String> {
    let backends = fixture.translate().config.backends;
    let text = |endpoint: &Endpoint| endpoint.address.to_string();
    backends
        .values()
        .flat_map(|backend| backend.draining.iter().map(text))
        .collect()
}

#[test]
fn ready_ones_take_requests_and_draining_ones_keep_their_sessions() {
    let endpoints = json!([
        endpoint("10.0.0.1", true, true, false),
        endpoint("10.0.0.2", false, true, true),
        endpoint("10.0.0.3", false, false, true),
        endpoint("10.0.0.4", false, false, false),
        {"addresses": ["10.0.0.5"]},
    ]);
    let fixture = fixture(&json!(null)).with(slice("IPv4", &endpoints));
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080", "10.0.0.5:8080"]);
    assert_eq!(draining(&fixture), ["10.0.0.2:8080"]);
}

#[test]
fn draining_ones_are_the_last_resort() {
    let endpoints = json!([
        endpoint("10.0.0.2", false, true, true),
        endpoint("10.0.0.3", false, false, true),
    ]);
    let fixture = fixture(&json!(null)).with(slice("IPv4", &endpoints));
    assert_eq!(fixture.endpoints(), ["10.0.0.2:8080"]);
}

#[test]
fn a_dual_stack_pod_counts_once() {
    let v4 = slice("IPv4", &json!([endpoint("10.0.0.1", true, true, false)]));
    let v6 = slice("IPv6", &json!([endpoint("fd00::1", true, true, false)]));
    let both = |families: &Value| {
        fixture(families)
            .with(v4.clone())
            .with(v6.clone())
            .endpoints()
    };
    assert_eq!(both(&json!(["IPv4", "IPv6"])), ["10.0.0.1:8080"]);
    assert_eq!(both(&json!(["IPv6", "IPv4"])), ["[fd00::1]:8080"]);
    let only_v4 = fixture(&json!(["IPv6", "IPv4"])).with(v4.clone());
    assert_eq!(
        only_v4.endpoints(),
        ["10.0.0.1:8080"],
        "the other family where there is none"
    );
}

#[test]
fn hints_count_for_the_zone_of_the_node_where_that_is_asked_for() {
    let in_zone = |address: &str, zone: &str| {
        let mut endpoint = endpoint(address, true, true, false);
        if !zone.is_empty() {
            endpoint["hints"] = json!({"forZones": [{"name": zone}]});
        }
        endpoint
    };
    let with = |second: &str, node: Option<&str>| {
        let endpoints = json!([in_zone("10.0.0.1", "a"), in_zone("10.0.0.2", second)]);
        let labels = json!({"topology.kubernetes.io/zone": "a"});
        let node_object = json!({"kind": "Node", "metadata": {"name": "edge", "labels": labels}});
        let mut fixture = fixture(&json!(null))
            .with(slice("IPv4", &endpoints))
            .with(node_object);
        fixture.options.hints_for_node = node.map(str::to_owned);
        fixture.endpoints()
    };
    let both = ["10.0.0.1:8080", "10.0.0.2:8080"];
    assert_eq!(with("b", Some("edge")), ["10.0.0.1:8080"]);
    assert_eq!(with("a", Some("edge")), both);
    assert_eq!(
        with("", Some("edge")),
        both,
        "one without hint: none counts"
    );
    assert_eq!(
        with("b", Some("other")),
        both,
        "a node whose zone is not known"
    );
    assert_eq!(with("b", None), both, "not asked for");
}
