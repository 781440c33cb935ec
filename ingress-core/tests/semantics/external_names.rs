//! Services of type `ExternalName`.

use serde_json::{Value, json};

use crate::fixture::{Fixture, rule};

const NAME: &str = "it spec.rules[0].http.paths[0].backend.service.name";

fn fixture(name: &str, ports: &Value) -> Fixture {
    let spec = json!({"type": "ExternalName", "externalName": name, "ports": ports});
    Fixture::new()
        .ingress(
            "it",
            json!({"rules": [rule("a.test", &[("Prefix", "/", "web")])]}),
        )
        .with(json!({"kind": "Service", "metadata": {"name": "web"}, "spec": spec}))
}

fn resolved(name: &str, addresses: &[&str]) -> Fixture {
    let mut fixture = fixture(name, &json!([{"port": 80, "targetPort": 8080}]));
    let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
    fixture
        .snapshot
        .names
        .insert(name.to_ascii_lowercase().into(), addresses);
    fixture
}

fn needed(fixture: &Fixture) -> Vec<String> {
    let names = fixture.translate().external_names;
    names.iter().map(ToString::to_string).collect()
}

#[test]
fn its_name_is_asked_for_and_its_addresses_are_the_endpoints() {
    let waiting = fixture("Web.Example", &json!([{"port": 80}]));
    assert_eq!(needed(&waiting), ["web.example"]);
    assert_eq!(waiting.endpoints(), [""; 0]);
    assert_eq!(
        waiting.findings(),
        [""; 0],
        "no fault while it is being looked up"
    );
    let found = resolved("web.example", &["192.0.2.2", "192.0.2.1", "2001:db8::1"]);
    assert_eq!(
        found.endpoints(),
        ["192.0.2.1:8080", "192.0.2.2:8080", "[2001:db8::1]:8080"]
    );
    assert_eq!(found.findings(), [""; 0]);
}

#[test]
fn a_service_without_ports_takes_the_number_of_the_ingress() {
    let mut fixture = fixture("web.example", &json!(null));
    let address = "192.0.2.1".parse().unwrap();
    fixture
        .snapshot
        .names
        .insert("web.example".into(), vec![address]);
    assert_eq!(fixture.endpoints(), ["192.0.2.1:80"]);
}

#[test]
fn unserved_external_names_are_explained() {
    let mut off = resolved("web.example", &["192.0.2.1"]);
    off.options.external_names = false;
    let pod = json!({"kind": "Pod", "metadata": {"name": "p"}, "status": {"hostIP": "192.0.2.9"}});
    for (fixture, reason) in [
        (off, "ServiceTypeUnsupported"),
        (resolved("web.example", &[]), "InvalidExternalName"),
        (
            fixture("192.0.2.1", &json!([{"port": 80}])),
            "InvalidExternalName",
        ),
        (
            fixture("not a name", &json!([{"port": 80}])),
            "InvalidExternalName",
        ),
        (
            fixture("web.example", &json!([{"port": 81}])),
            "ServicePortNotFound",
        ),
        (
            resolved("web.example", &["127.0.0.1"]),
            "InvalidExternalName",
        ),
        (
            resolved("web.example", &["::ffff:127.0.0.1"]),
            "InvalidExternalName",
        ),
        (
            resolved("web.example", &["169.254.169.254"]),
            "InvalidExternalName",
        ),
        (resolved("a.test", &["192.0.2.1"]), "ExternalNameLoop"),
        (resolved("A.TEST", &["192.0.2.1"]), "ExternalNameLoop"),
        (
            resolved("web.example", &["192.0.2.9"]).with(pod),
            "ExternalNameLoop",
        ),
    ] {
        assert_eq!(fixture.findings(), [format!("{NAME} {reason}")]);
        assert_eq!(fixture.endpoints(), [""; 0], "{reason}");
    }
}

/// A zone may be half here and half elsewhere: where a name leads is told by its addresses.
#[test]
fn name_below_a_wildcard_host_of_ours_is_served() {
    let other = json!({"rules": [rule("*.edge.example", &[("Prefix", "/", "web")])]});
    let fixture = resolved("web.edge.example", &["192.0.2.1"]).ingress("wild", other);
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn name_that_leads_to_instance_metadata_is_refused() {
    for address in ["fd00:ec2::254", "100.100.100.200", "168.63.129.16"] {
        let findings = resolved("web.example", &[address]).findings();
        assert_eq!(
            findings,
            [format!("{NAME} InvalidExternalName")],
            "{address}"
        );
    }
}
