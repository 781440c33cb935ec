//! From a backend to the addresses of pods.

use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

fn fixture(port: &Value) -> Fixture {
    let backend = json!({"service": {"name": "web", "port": port}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    Fixture::new().ingress(
        "it",
        json!({"rules": [{"host": "a.test", "http": {"paths": [path]}}]}),
    )
}

const FIELD: &str = "spec.rules[0].http.paths[0].backend";

#[test]
fn ports_are_found_by_number_and_by_name() {
    let ports = json!([
        {"name": "admin", "port": 9000, "targetPort": 9001},
        {"name": "http", "port": 80, "targetPort": "web"},
    ]);
    let slice_ports = json!([{"name": "admin", "port": 9001}, {"name": "http", "port": 8080}]);
    for port in [json!({"number": 80}), json!({"name": "http"})] {
        let fixture =
            fixture(&port)
                .service_with("web", &ports)
                .slice("web", &slice_ports, &["10.0.0.1"]);
        assert_eq!(fixture.endpoints(), ["10.0.0.1:8080"], "{port}");
        assert_eq!(fixture.findings(), [""; 0]);
    }
}

#[test]
fn a_named_target_port_may_differ_from_pod_to_pod() {
    let fixture = fixture(&json!({"number": 80}))
        .service_with("web", &json!([{"port": 80, "targetPort": "web"}]))
        .slice(
            "web",
            &json!([{"name": "", "port": 8080}]),
            &["10.0.0.1", "10.0.0.2"],
        )
        .slice("web", &json!([{"port": 8081}]), &["10.0.0.3"]);
    assert_eq!(
        fixture.endpoints(),
        ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8081"]
    );
}

#[test]
fn both_address_families_are_used_and_duplicates_are_not() {
    let fixture = fixture(&json!({"number": 80}))
        .service("web")
        .slice("web", &json!([{"port": 8080}]), &["10.0.0.1"])
        .slice("web", &json!([{"port": 8080}]), &["fd00::1"]);
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080", "[fd00::1]:8080"]);
}

#[test]
fn only_endpoints_that_are_not_known_to_be_unready_are_used() {
    let endpoint = |address: &str, conditions: Value| json!({"addresses": [address], "conditions": conditions});
    let fixture = fixture(&json!({"number": 80}))
        .service_with("web", &json!([{"port": 80}]))
        .with(json!({
            "kind": "EndpointSlice",
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "ports": [{"port": 80}],
            "endpoints": [
                endpoint("10.0.0.1", json!({"ready": true})),
                endpoint("10.0.0.2", json!({"ready": false, "serving": true, "terminating": true})),
                endpoint("10.0.0.3", json!({})),
            ],
        }));
    assert_eq!(fixture.endpoints(), ["10.0.0.1:80", "10.0.0.3:80"]);
}

#[test]
fn headless_services_without_ports_in_their_slices_use_the_target_port() {
    let headless = |ports: Value| {
        let spec = json!({"clusterIP": "None", "ports": ports});
        json!({"kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    };
    let fixture = fixture(&json!({"number": 80}))
        .with(headless(json!([{"port": 80, "targetPort": 8080}])))
        .slice("web", &json!([]), &["10.0.0.1"])
        .slice("web", &json!([{"port": 8080}]), &["10.0.0.2"]);
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn slices_of_other_services_ports_and_namespaces_are_left_alone() {
    let foreign = json!({
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": "other", "name": "s", "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": ["10.0.0.9"]}],
    });
    let fixture = fixture(&json!({"number": 80}))
        .service("web")
        .slice("web-2", &json!([{"port": 8080}]), &["10.0.0.7"])
        .slice(
            "web",
            &json!([{"name": "other", "port": 8080}]),
            &["10.0.0.8"],
        )
        .slice(
            "web",
            &json!([{"port": 8080, "protocol": "UDP"}]),
            &["10.0.0.6"],
        )
        .with(foreign);
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080"]);
}

#[test]
fn a_missing_service_or_port_is_reported_and_has_no_endpoints() {
    let fixture_of = |service: fn(Fixture) -> Fixture| service(fixture(&json!({"number": 80})));
    let no_service = fixture_of(|fixture| fixture);
    assert_eq!(no_service.endpoints(), [""; 0]);
    assert_eq!(
        no_service.findings(),
        [format!("it {FIELD}.service.name ServiceNotFound")]
    );
    assert_eq!(
        no_service.answers().ask("a.test", "/"),
        "web:80",
        "the route stays, without endpoints"
    );

    let no_port = fixture_of(|fixture| fixture.service_with("web", &json!([{"port": 81}])));
    assert_eq!(no_port.endpoints(), [""; 0]);
    assert_eq!(
        no_port.findings(),
        [format!("it {FIELD}.service.port ServicePortNotFound")]
    );

    let udp = json!([{"port": 80, "protocol": "UDP"}]);
    let udp = fixture(&json!({"number": 80})).service_with("web", &udp);
    assert_eq!(
        udp.findings(),
        [format!("it {FIELD}.service.port ServicePortNotFound")]
    );
}

#[test]
fn each_mention_of_a_missing_service_is_reported() {
    let rules = json!([rule(
        "a.test",
        &[("Prefix", "/a", "web"), ("Prefix", "/b", "web")]
    )]);
    let fixture = Fixture::new().ingress("it", json!({"rules": rules}));
    assert_eq!(
        fixture.findings(),
        [0, 1].map(|path| format!(
            "it spec.rules[0].http.paths[{path}].backend.service.name ServiceNotFound"
        )),
    );
}

#[test]
fn the_target_port_is_accepted_with_a_warning() {
    let fixture = fixture(&json!({"number": 8080})).service("web");
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080"]);
    assert_eq!(
        fixture.findings(),
        [format!("it {FIELD}.service.port ServicePortByTargetPort")]
    );
}

#[test]
fn unusable_slices_are_reported_on_the_slice() {
    let slice = |kind: &str, port: i32, address: &str| {
        json!({
            "kind": "EndpointSlice",
            "metadata": {"name": "s", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": kind,
            "ports": [{"port": port}],
            "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": [address]}],
        })
    };
    for (slice, expected) in [
        (
            slice("FQDN", 8080, "web.test"),
            "s addressType AddressTypeUnsupported",
        ),
        (
            slice("IPv4", 8080, "web.test"),
            "s endpoints[1].addresses[0] InvalidEndpoint",
        ),
        (slice("IPv4", 70_000, "10.0.0.3"), "s ports InvalidEndpoint"),
    ] {
        let fixture = fixture(&json!({"number": 80})).service("web").with(slice);
        assert_eq!(fixture.findings(), [expected]);
        assert!(fixture.endpoints().contains(&"10.0.0.1:8080".to_owned()));
    }
}

#[test]
fn the_app_protocol_of_the_service_port_says_what_endpoints_speak() {
    use ingress_core::ir::UpstreamProtocol::{Http1, Http2, Http2Tls, Https};
    for (name, expected) in [
        (json!("kubernetes.io/h2c"), Http2),
        (json!("grpc"), Http2),
        (json!("GRPC"), Http2),
        (json!("grpcs"), Http2Tls),
        (json!("https"), Https),
        (json!("kubernetes.io/wss"), Https),
        (json!("kubernetes.io/ws"), Http1),
        (json!("http"), Http1),
        (json!("example.com/own"), Http1),
        (Value::Null, Http1),
    ] {
        let ports = json!([{"port": 80, "targetPort": 8080, "appProtocol": name}]);
        let translation = fixture(&json!({"number": 80}))
            .service_with("web", &ports)
            .translate();
        let backend = translation.config.backends.values().next().unwrap();
        assert_eq!(backend.protocol, expected, "{name}");
    }
}

#[test]
fn a_udp_service_takes_ports_of_its_own_protocol() {
    let ports = json!([
        {"name": "tcp", "port": 53, "protocol": "TCP", "targetPort": 5301},
        {"name": "udp", "port": 53, "protocol": "UDP", "targetPort": 5302},
    ]);
    let slice = json!([
        {"name": "tcp", "port": 5301, "protocol": "TCP"},
        {"name": "udp", "port": 5302, "protocol": "UDP"},
    ]);
    let mut fixture =
        Fixture::new()
            .service_with("dns", &ports)
            .slice("dns", &slice, &["10.0.0.1"]);
    let udp = "test/dns:53".parse().unwrap();
    fixture.options.udp_services.insert(5353, udp);
    assert_eq!(fixture.endpoints(), ["10.0.0.1:5302"]);
    let none = "test/dns:54".parse().unwrap();
    fixture.options.udp_services.insert(5354, none);
    assert_eq!(fixture.findings(), ["dns spec ServicePortNotFound"]);
    fixture.options.udp_services.clear();
    let tcp = "test/dns:53".parse().unwrap();
    fixture.options.tcp_services.insert(5353, tcp);
    assert_eq!(fixture.endpoints(), ["10.0.0.1:5301"]);
}
