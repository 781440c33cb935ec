//! Ports of TCP and UDP services, from flags and from ConfigMaps.

use std::collections::BTreeMap;

use ingress_core::ir::ObjectRef;
use ingress_core::translate::needs;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixture::Fixture;

fn config_map(name: &str) -> ObjectRef {
    ObjectRef {
        kind: "ConfigMap",
        namespace: "test".into(),
        name: name.into(),
    }
}

/// A Service `db` with port 80, and ConfigMaps `tcp` and `udp` with these entries.
fn fixture(tcp: &Value, udp: &Value) -> Fixture {
    let mut fixture = Fixture::new().service("db");
    for (name, data) in [("tcp", tcp), ("udp", udp)] {
        let object = json!({"kind": "ConfigMap", "metadata": {"name": name}, "data": data});
        fixture = fixture.with(object);
    }
    fixture.options.tcp_services_from = Some(config_map("tcp"));
    fixture.options.udp_services_from = Some(config_map("udp"));
    fixture.options.reserved_ports = [80, 443].into();
    fixture
}

/// The TCP ports with their backends.
fn tcp_ports(fixture: &Fixture) -> BTreeMap<u16, String> {
    let services = fixture.translate().config.tcp_services.into_iter();
    let services = services.map(|(port, service)| (port, service.backend.to_string()));
    services.collect()
}

#[test]
fn each_entry_of_the_config_map_is_a_port() {
    let tcp = json!({"9000": "test/db:80", "9001": "test/db:80:PROXY:PROXY"});
    let fixture = fixture(&tcp, &json!({}));
    let config = fixture.translate().config;
    assert_eq!(
        config.tcp_services.keys().collect::<Vec<_>>(),
        [&9000, &9001]
    );
    let service = &config.tcp_services[&9001];
    assert!(service.takes_proxy_header && service.sends_proxy_header.is_some());
    assert_eq!(fixture.endpoints(), ["10.0.0.1:8080"]);
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn tcp_and_udp_services_may_have_the_same_port() {
    let slice = json!([{"name": "udp", "port": 5302, "protocol": "UDP"}]);
    let ports = json!([{"name": "udp", "port": 53, "protocol": "UDP"}]);
    let entries = (
        json!({"53": "test/db:80"}),
        json!({"53": "test/dns:53", "80": "test/dns:53"}),
    );
    let fixture = fixture(&entries.0, &entries.1)
        .service_with("dns", &ports)
        .slice("dns", &slice, &["10.0.0.2"]);
    let config = fixture.translate().config;
    assert_eq!(config.tcp_services.keys().collect::<Vec<_>>(), [&53]);
    assert_eq!(
        config.udp_services.keys().collect::<Vec<_>>(),
        [&53, &80],
        "the daemon's own ports are TCP's"
    );
    assert_eq!(fixture.findings(), [""; 0]);
}

#[test]
fn a_bad_entry_is_told_by_its_key_and_affects_itself_only() {
    let tcp = json!({
        "9000": "test/db:80",
        "09000": "test/db:80",
        "80": "test/db:80",
        "0": "test/db:80",
        "70000": "test/db:80",
        "+9002": "test/db:80",
        "http": "test/db:80",
        "9003": "db:80",
        "9004": "test/db:80:PROXI",
        "9005": "test/none:80",
        "9006": "test/db:81",
        "9007": "test/db:80",
    });
    let mut fixture = fixture(&tcp, &json!({}));
    let flag = "test/db:80".parse().unwrap();
    fixture.options.tcp_services.insert(9007, flag);
    assert_eq!(
        fixture.findings(),
        [
            "tcp data[+9002] InvalidPort",
            "tcp data[0] InvalidPort",
            "tcp data[70000] InvalidPort",
            "tcp data[80] PortConflict",
            "tcp data[9000] PortConflict",
            "tcp data[9003] InvalidBackend",
            "tcp data[9004] InvalidBackend",
            "tcp data[9005] ServiceNotFound",
            "tcp data[9006] ServicePortNotFound",
            "tcp data[9007] PortConflict",
            "tcp data[http] InvalidPort",
        ]
    );
    let ports: Vec<_> = tcp_ports(&fixture).into_keys().collect();
    assert_eq!(ports, [9000, 9005, 9006, 9007]);
}

#[test]
fn a_config_map_that_does_not_exist_is_told_and_asked_for() {
    let mut fixture = Fixture::new();
    fixture.options.tcp_services_from = Some(config_map("tcp"));
    assert_eq!(fixture.findings(), ["tcp data ConfigMapNotFound"]);
    let needs = needs(&fixture.snapshot, &fixture.options);
    assert_eq!(needs.config_maps, [config_map("tcp")].into());
}

/// Keys and values, most of them good.
fn entries() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![
        8 => (1_u32..=20).prop_map(|port| port.to_string()),
        1 => (0_u32..=100_000).prop_map(|port| port.to_string()),
        1 => "[0-9a-z+ -]{0,4}",
    ];
    let value = prop_oneof![
        8 => Just("test/db:80".to_owned()),
        1 => Just("test/none:80".to_owned()),
        1 => "[a-z/:0-9]{0,12}",
    ];
    proptest::collection::btree_map(key, value, 0..8)
}

proptest! {
    #[test]
    fn an_entry_more_changes_no_other_entry(
        entries in entries(),
        key in "[0-9]{1,5}",
        value in prop_oneof![Just("test/db:80"), Just("nonsense")],
    ) {
        let before = tcp_ports(&fixture(&json!(entries), &json!({})));
        let mut more = entries.clone();
        more.insert(key.clone(), value.to_owned());
        let after = tcp_ports(&fixture(&json!(more), &json!({})));
        let added: u32 = key.parse().unwrap();
        for (port, backend) in before {
            if u32::from(port) != added {
                prop_assert_eq!(after.get(&port), Some(&backend));
            }
        }
    }

    #[test]
    fn every_entry_is_served_or_told_of(entries in entries()) {
        let fixture = fixture(&json!(entries), &json!({}));
        let served = tcp_ports(&fixture);
        let found = fixture.findings();
        for key in entries.keys() {
            let is_served = key.parse().is_ok_and(|port: u16| served.contains_key(&port));
            let is_told = found.iter().any(|finding| finding.contains(&format!("data[{key}]")));
            prop_assert!(is_served || is_told, "{} of {:?}: {:?}", key, entries, found);
        }
        prop_assert!(!served.contains_key(&80) && !served.contains_key(&443));
    }
}
