//! Routing and translation, done as often as asked, so that what one time takes can be counted:
//!
//! ```sh
//! valgrind --tool=callgrind target/rig/examples/work find-in-10 1000
//! ```

use std::hint::black_box;
use std::sync::Arc;

use ingress_core::ir::{HostPattern, HostRules, ObjectRef, PathPattern, Rule, RuleOrigin, Target};
use ingress_core::route::RouteTable;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, Translator, Unclassed};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

fn main() -> Result<(), String> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, name, count] = &arguments[..] else {
        return Err("expected: the name of the work and how often to do it".to_owned());
    };
    let count: usize = count
        .parse()
        .map_err(|error| format!("`{count}`: {error}"))?;
    match name.as_str() {
        "find-in-10" => find(10, count),
        "find-in-100000" => find(100_000, count),
        "change-one-of-10000-hosts" => change_hosts(10_000, count),
        "translate-1000-ingresses" => translate(1_000, count),
        "follow-slices-of-1000-services" => follow_slices(1_000, count),
        unknown => return Err(format!("`{unknown}` is no work that is known")),
    }
    Ok(())
}

fn rules(path: &str) -> Arc<HostRules> {
    let ingress = ObjectRef {
        kind: "Ingress",
        namespace: "work".into(),
        name: "work".into(),
    };
    let rule = Rule {
        matches: PathPattern::prefix(path).into(),
        target: Target::Unavailable,
        policy: Arc::default(),
        origin: RuleOrigin {
            ingress,
            path: path.into(),
        },
    };
    Arc::new(HostRules {
        rules: vec![Arc::new(rule)],
        default: None,
        ..HostRules::default()
    })
}

fn hosts(number: usize) -> Vec<(HostPattern, Arc<HostRules>)> {
    let host = |number| HostPattern::parse(&format!("host{number}.example.com"));
    let hosts = (0..number).filter_map(|number| host(number).ok());
    hosts.map(|host| (host, rules("/"))).collect()
}

fn table(hosts: &[(HostPattern, Arc<HostRules>)]) -> RouteTable<()> {
    let pairs = hosts.iter().map(|(host, rules)| (host, rules));
    RouteTable::compile(pairs, None, |_, _| ())
}

/// Looks routes up as requests do.
fn find(number: usize, count: usize) {
    let hosts = hosts(number);
    let table = table(&hosts);
    let authorities: Vec<String> = hosts
        .iter()
        .map(|(host, _)| format!("{host}:8080"))
        .collect();
    for authority in authorities.iter().cycle().take(count) {
        black_box(table.find(black_box(authority), "/some/path"));
    }
}

/// Compiles the routes after a change of one host.
fn change_hosts(number: usize, count: usize) {
    let hosts = hosts(number);
    let mut table = table(&hosts);
    let changed = rules("/changed");
    for (host, _) in hosts.iter().cycle().take(count) {
        table = table.with_changes([(host, Some(&changed))], None, |_, _| ());
    }
    black_box(table);
}

/// Reads everything from scratch.
fn translate(number: usize, count: usize) {
    let snapshot = snapshot(number);
    for _ in 0..count {
        black_box(translator().translate(&snapshot));
    }
}

/// Follows pods that come and go.
fn follow_slices(number: usize, count: usize) {
    let mut snapshot = snapshot(number);
    let mut slices: Vec<_> = snapshot.endpoint_slices.iter().cloned().collect();
    let mut translator = translator();
    translator.translate(&snapshot);
    for turn in 0..count {
        let place = turn % number;
        let changed = Arc::new(slice(place, 2 + turn / number % 2).into());
        snapshot.endpoint_slices.replace(&slices[place], &changed);
        slices[place] = changed;
        black_box(translator.translate(&snapshot));
    }
}

fn translator() -> Translator {
    Translator::new(Options {
        unclassed: Unclassed::Accept,
        ..Options::default()
    })
}

/// An Ingress, a Service and a slice for each of so many hosts.
fn snapshot(number: usize) -> Snapshot {
    Snapshot {
        ingresses: (0..number)
            .map(|number| Arc::new(ingress(number).into()))
            .collect(),
        services: (0..number)
            .map(|number| Arc::new(service(number).into()))
            .collect(),
        endpoint_slices: (0..number)
            .map(|number| Arc::new(slice(number, 1).into()))
            .collect(),
        ..Snapshot::default()
    }
}

fn ingress(number: usize) -> Ingress {
    let backend = json!({"service": {"name": format!("service{number}"), "port": {"number": 80}}});
    let path = json!({"path": "/", "pathType": "Prefix", "backend": backend});
    object(json!({
        "metadata": {"namespace": "work", "name": format!("ingress{number}")},
        "spec": {"rules": [
            {"host": format!("host{number}.example.com"), "http": {"paths": [path]}},
        ]},
    }))
}

fn service(number: usize) -> Service {
    object(json!({
        "metadata": {"namespace": "work", "name": format!("service{number}")},
        "spec": {"ports": [{"port": 80}]},
    }))
}

fn slice(number: usize, last: usize) -> EndpointSlice {
    let service = format!("service{number}");
    let address = format!("10.{}.{}.{last}", number / 250, number % 250);
    object(json!({
        "metadata": {
            "namespace": "work", "name": format!("{service}-slice"),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"port": 8080}],
        "endpoints": [{"addresses": [address]}],
    }))
}

fn object<K: DeserializeOwned + Default>(value: Value) -> K {
    serde_json::from_value(value).unwrap_or_default()
}
