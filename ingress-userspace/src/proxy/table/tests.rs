//! Tables that follow each other.

use std::net::SocketAddr;

use ingress_core::ir::{
    Backend, BackendPolicy, Endpoint, HostRules, ObjectRef, PathPattern, Rule, RuleOrigin,
    ServicePort, Target, UpstreamProtocol,
};

use super::*;
use crate::proxy::tls::TlsOptions;

fn key(service: &str) -> Arc<BackendKey> {
    Arc::new(BackendKey {
        namespace: "default".into(),
        service: service.into(),
        port: ServicePort::Number(80),
        policy: BackendPolicy::default(),
    })
}

/// One host for each service, and the last octet of each of its endpoints.
fn config(services: &[(&str, &[u8])]) -> Arc<Config> {
    let mut config = Config::default();
    for (service, endpoints) in services {
        let address = |last: &u8| SocketAddr::from(([10, 0, 0, *last], 80));
        let endpoints = endpoints.iter().map(|last| Endpoint {
            address: address(last),
        });
        let backend = Backend {
            key: key(service),
            protocol: UpstreamProtocol::Http1,
            endpoints: endpoints.collect(),
            draining: Vec::new(),
        };
        config.backends.insert(key(service), Arc::new(backend));
        let ingress = ObjectRef {
            kind: "Ingress",
            namespace: "default".into(),
            name: "test".into(),
        };
        let rule = Rule {
            matches: PathPattern::prefix("/").into(),
            target: Target::backend(key(service)),
            policy: Arc::default(),
            origin: RuleOrigin {
                ingress,
                path: "/".into(),
            },
        };
        let rules = HostRules {
            rules: vec![Arc::new(rule)],
            ..HostRules::default()
        };
        let host = HostPattern::parse(&format!("{service}.test")).unwrap();
        config.hosts.insert(host, Arc::new(rules));
    }
    Arc::new(config)
}

fn slot(table: &Table, service: &str) -> Arc<BackendHandle> {
    Arc::clone(&table.backends.slots[&key(service)])
}

fn handle(config: Arc<Config>) -> (TableHandle, DefaultCertificate) {
    let default = DefaultCertificate::generate().unwrap();
    let (table, _) = Table::build(None, config, 1, &default);
    (
        TableHandle::new(table, &TlsOptions::default()).unwrap(),
        default,
    )
}

#[test]
fn endpoints_change_without_a_change_of_routes() {
    let (handle, default) = handle(config(&[("a", &[1]), ("b", &[2])]));
    let before = handle.current();
    let next = config(&[("a", &[1, 3]), ("b", &[2])]);
    let (table, _) = Table::build(Some(&before), next, 2, &default);
    assert!(Arc::ptr_eq(&before.routes, &table.routes));
    assert!(Arc::ptr_eq(&before.certificates, &table.certificates));
    assert_eq!(table.changes.endpoints.len(), 1);
    let slot = slot(&before, "a");
    let added = SocketAddr::from(([10, 0, 0, 3], 80));
    let has_added = || slot.endpoints().addresses.contains(&added);
    assert!(!has_added(), "building has no effect");
    handle.publish(table);
    assert!(has_added());
}

#[test]
fn a_backend_that_leaves_retires_and_may_come_back() {
    let (handle, default) = handle(config(&[("a", &[1]), ("b", &[2])]));
    let before = handle.current();
    let (left, address) = (slot(&before, "b"), SocketAddr::from(([10, 0, 0, 2], 80)));
    let (table, _) = Table::build(Some(&before), config(&[("a", &[1])]), 2, &default);
    handle.publish(table);
    assert!(left.is_retired());
    let found_before = left.endpoints();
    assert_eq!(found_before.addresses, [address]);
    let without = handle.current();
    assert!(without.routes().find("b.test", "/").is_none());
    let again = config(&[("a", &[1]), ("b", &[2])]);
    let (table, _) = Table::build(Some(&without), again, 3, &default);
    handle.publish(table);
    let slot = slot(&handle.current(), "b");
    assert!(!slot.is_retired() && slot.id != left.id);
    assert_eq!(slot.endpoints().addresses, [address]);
}

#[test]
fn labels_that_left_are_counted_through_generations_that_nobody_looked_at() {
    let (handle, default) = handle(config(&[("a", &[1]), ("b", &[2])]));
    let publish = |generation, next| {
        let before = handle.current();
        let (table, _) = Table::build(Some(&before), next, generation, &default);
        handle.publish(table);
        handle.current().labels_left()
    };
    assert_eq!(publish(2, config(&[("a", &[1, 3]), ("b", &[2])])), 0);
    assert_eq!(publish(3, config(&[("a", &[1, 3])])), 1);
    assert_eq!(publish(4, config(&[("a", &[1])])), 1, "endpoints alone");
    assert_eq!(publish(5, config(&[("a", &[1]), ("b", &[2])])), 1);
    assert_eq!(publish(6, config(&[("a", &[1])])), 2);
}
