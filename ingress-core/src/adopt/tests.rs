//! Which addresses are adopted, against objects as the API server has them.

use std::sync::Arc;

use k8s_openapi::api::core::v1;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::list::List;

fn service(name: &str, ports: &Value, ingress: &Value) -> Arc<Service> {
    let service: v1::Service = serde_json::from_value(json!({
        "metadata": {"namespace": "edge", "name": name},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.9"], "ports": ports,
                 "externalIPs": ["192.0.2.200"]},
        "status": {"loadBalancer": {"ingress": ingress}},
    }))
    .unwrap();
    Arc::new(service.into())
}

fn web(ingress: &Value) -> Snapshot {
    let ports = json!([{"port": 80, "targetPort": 80}, {"port": 443, "targetPort": "https"}]);
    Snapshot {
        services: List::from_iter([service("web", &ports, ingress)]),
        ..Snapshot::default()
    }
}

fn wanted() -> Wanted {
    Wanted {
        services: [("edge".to_owned(), "web".to_owned())].into(),
        tcp: [80, 443, 5432].into(),
        udp: [53].into(),
        http_and_https: [80, 443],
    }
}

fn frontends(snapshot: &Snapshot) -> Vec<String> {
    let adoption = adopt(snapshot, &wanted());
    adoption.frontends.keys().map(ToString::to_string).collect()
}

fn complaints(snapshot: &Snapshot) -> Vec<String> {
    let adoption = adopt(snapshot, &wanted());
    let lines = adoption.diagnostics.iter();
    lines
        .map(|one| format!("{}: {}", one.field, one.message))
        .collect()
}

#[test]
fn addresses_of_the_load_balancer_are_adopted_for_the_ports_of_the_service() {
    let snapshot = web(&json!([
        {"ip": "192.0.2.8"},
        {"ip": "2001:db8::8", "ipMode": "VIP"},
        {"hostname": "lb.example"},
        {"ip": "192.0.2.9", "ipMode": "Proxy"},
    ]));
    assert_eq!(
        frontends(&snapshot),
        [
            "192.0.2.8:80",
            "192.0.2.8:443",
            "[2001:db8::8]:80",
            "[2001:db8::8]:443"
        ]
    );
    assert_eq!(complaints(&snapshot), [""; 0]);
    let adoption = adopt(&snapshot, &wanted());
    let givers: BTreeSet<_> = adoption
        .frontends
        .values()
        .map(ToString::to_string)
        .collect();
    assert_eq!(givers, ["Service edge/web".to_owned()].into());
}

#[test]
fn other_services_give_nothing() {
    let mut snapshot = web(&json!([]));
    let ports = json!([{"port": 80}]);
    let other = service("other", &ports, &json!([{"ip": "192.0.2.8"}]));
    snapshot.services.push(other);
    assert_eq!(frontends(&snapshot), [""; 0]);
    assert_eq!(adopt(&snapshot, &Wanted::default()), Adoption::default());
    let missing = complaints(&Snapshot::default());
    let said = "metadata.name: the Service that `--adopt-service` names does not exist";
    assert_eq!(missing, [said]);
}

#[test]
fn ports_that_are_not_served_are_told_and_the_others_are_adopted() {
    let ports = json!([
        {"name": "a", "port": 80},
        {"name": "b", "port": 81, "targetPort": 80},
        {"name": "c", "port": 9000},
        {"name": "d", "port": 443, "targetPort": "else"},
        {"name": "e", "port": 53, "protocol": "UDP"},
        {"name": "f", "port": 54, "protocol": "UDP"},
        {"name": "g", "port": 80, "protocol": "SCTP"},
        {"name": "h", "port": 5432, "targetPort": 5432},
    ]);
    let ingress = json!([{"ip": "192.0.2.8"}]);
    let snapshot = Snapshot {
        services: List::from_iter([service("web", &ports, &ingress)]),
        ..Snapshot::default()
    };
    assert_eq!(frontends(&snapshot), ["192.0.2.8:80", "192.0.2.8:5432"]);
    let fields: Vec<_> = complaints(&snapshot)
        .iter()
        .map(|line| line.split(':').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        fields,
        [1, 2, 3, 5, 6].map(|index| format!("spec.ports[{index}]"))
    );
    let all = adopt(&snapshot, &wanted()).diagnostics;
    assert!(all.iter().all(|one| one.reason == Reason::PortNotServed));
}

#[test]
fn addresses_of_the_cluster_are_refused_however_they_are_spelt() {
    let mut snapshot = web(&json!([
        {"ip": "10.0.0.1"},
        {"ip": "::ffff:10.0.0.1"},
        {"ip": "10.2.3.4"},
        {"ip": "fd02::4"},
        {"ip": "10.96.0.9"},
        {"ip": "10.7.0.7"},
        {"ip": "127.0.0.1"},
        {"ip": "::ffff:127.0.0.1"},
        {"ip": "fe80::1"},
        {"ip": "224.0.0.1"},
        {"ip": "0.0.0.0"},
        {"ip": "no address"},
        {"ip": "192.0.2.8"},
    ]));
    let node: v1::Node = serde_json::from_value(json!({
        "metadata": {"name": "a"},
        "spec": {"podCIDR": "10.2.0.0/16", "podCIDRs": ["10.2.0.0/16", "fd02::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "Hostname", "address": "a"},
        ]},
    }))
    .unwrap();
    snapshot.nodes.push(Arc::new(node));
    let slice: k8s_openapi::api::discovery::v1::EndpointSlice = serde_json::from_value(json!({
        "metadata": {"namespace": "edge", "name": "x"},
        "addressType": "IPv4",
        "ports": [],
        "endpoints": [{"addresses": ["10.7.0.7"]}],
    }))
    .unwrap();
    snapshot.endpoint_slices.push(Arc::new(slice.into()));
    assert_eq!(frontends(&snapshot), ["192.0.2.8:80", "192.0.2.8:443"]);
    let said = complaints(&snapshot);
    assert_eq!(said.len(), 12, "{said:#?}");
    for part in [
        "`10.0.0.1` is an address of node `a`",
        "`10.2.3.4` is in the pod network 10.2.0.0/16",
        "`fd02::4` is in the pod network fd02::/64",
        "`10.96.0.9` is the ClusterIP of Service edge/web",
        "`10.7.0.7` is the address of an endpoint",
        "`127.0.0.1` is no address that clients could reach",
        "`no address` is no IP address",
    ] {
        assert!(
            said.iter().any(|line| line.contains(part)),
            "{part}: {said:#?}"
        );
    }
}

#[test]
fn a_service_gives_a_bounded_number_of_addresses() {
    let many: Vec<_> = (0..ADDRESSES_MAX + 2)
        .map(|number| json!({"ip": format!("192.0.2.{number}")}))
        .collect();
    let adoption = adopt(&web(&Value::from(many)), &wanted());
    assert_eq!(adoption.frontends.len(), 2 * ADDRESSES_MAX);
    assert_eq!(adoption.diagnostics.len(), 2);
}

#[test]
fn all_services_together_leave_room_for_the_nodes_own_addresses() {
    let ports: Vec<_> = (0..100)
        .map(|number| json!({"name": format!("p{number}"), "port": 1000 + number}))
        .collect();
    let ingress: Vec<_> = (0..ADDRESSES_MAX)
        .map(|number| json!({"ip": format!("192.0.2.{number}")}))
        .collect();
    let snapshot = Snapshot {
        services: List::from_iter([service("web", &ports.into(), &ingress.into())]),
        ..Snapshot::default()
    };
    let wanted = Wanted {
        tcp: (1000..1100).collect(),
        ..wanted()
    };
    let adoption = adopt(&snapshot, &wanted);
    assert_eq!(adoption.frontends.len(), 2000);
    assert_eq!(adoption.diagnostics.len(), ADDRESSES_MAX - 20);
    let said = &adoption.diagnostics[0].message;
    assert_eq!(said, "no more than 2048 addresses with a port are adopted");
}

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..4, 0u8..4).prop_map(|(net, host)| IpAddr::from([10, net, 0, host])),
        (0u16..4, 0u16..4).prop_map(|(net, host)| IpAddr::from([0xfd00, net, 0, 0, 0, 0, 0, host])),
    ]
}

proptest! {
    /// Against a reference that looks at each address and port by itself.
    #[test]
    fn exactly_foreign_addresses_with_served_ports_are_adopted(
        given in btree_set(ip(), 0..8),
        nodes in btree_set(ip(), 0..4),
        networks in vec(0u8..4, 0..2),
        ports in btree_set(0u16..6, 0..6),
        served in btree_set(0u16..6, 0..6),
    ) {
        let networks: Vec<IpNet> = networks
            .iter()
            .map(|net| format!("10.{net}.0.0/16").parse().unwrap())
            .collect();
        let node: v1::Node = serde_json::from_value(json!({
            "metadata": {"name": "a"},
            "spec": {"podCIDRs": networks},
            "status": {"addresses": nodes
                .iter()
                .map(|ip| json!({"type": "InternalIP", "address": ip}))
                .collect::<Vec<_>>()},
        }))
        .unwrap();
        let port = |port: &u16| json!({"name": format!("p{port}"), "port": port});
        let ports_json: Vec<_> = ports.iter().map(port).collect();
        let ingress: Vec<_> = given.iter().map(|ip| json!({"ip": ip})).collect();
        let service = service("web", &Value::from(ports_json), &Value::from(ingress));
        let snapshot = Snapshot {
            services: List::from_iter([service]),
            nodes: List::from_iter([Arc::new(node)]),
            ..Snapshot::default()
        };
        let wanted = Wanted { tcp: served.clone(), ..wanted() };
        let mut expected = BTreeSet::new();
        for ip in &given {
            let is_ours = nodes.contains(ip) || networks.iter().any(|net| net.contains(ip));
            for port in ports.intersection(&served).filter(|_| !is_ours) {
                expected.insert(SocketAddr::new(*ip, *port));
            }
        }
        let adoption = adopt(&snapshot, &wanted);
        let adopted: BTreeSet<_> = adoption.frontends.keys().copied().collect();
        prop_assert_eq!(adopted, expected);
        prop_assert_eq!(&adopt(&snapshot, &wanted), &adoption);
    }
}
