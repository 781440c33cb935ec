//! Builds snapshots in few words and asks where requests go.

use std::sync::Arc;

use ingress_core::ir::{Config, Rule, Target};
use ingress_core::route::RouteTable;
use ingress_core::snapshot::Snapshot;
use ingress_core::translate::{Options, Translation, translate};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::Ingress;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Objects of namespace `test`, unless they say otherwise.
#[derive(Debug, Default)]
pub(crate) struct Fixture {
    pub(crate) snapshot: Snapshot,
    pub(crate) options: Options,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds an object by its kind.
    pub(crate) fn with(mut self, mut object: Value) -> Self {
        let meta = object["metadata"].as_object_mut().unwrap();
        meta.entry("namespace").or_insert_with(|| "test".into());
        let snapshot = &mut self.snapshot;
        match object["kind"].as_str().unwrap() {
            "Ingress" => snapshot.ingresses.push(reduced::<Ingress, _>(object)),
            "IngressClass" => snapshot.ingress_classes.push(read(object)),
            "Service" => snapshot.services.push(reduced::<Service, _>(object)),
            "EndpointSlice" => {
                snapshot
                    .endpoint_slices
                    .push(reduced::<EndpointSlice, _>(object));
            }
            "Secret" => snapshot.secrets.push(read(object)),
            "ConfigMap" => snapshot.config_maps.push(read(object)),
            "Node" => snapshot.nodes.push(read(object)),
            "Pod" => snapshot.pods.push(read(object)),
            kind => panic!("unknown kind {kind}"),
        }
        self
    }

    /// Adds an Ingress of our class.
    pub(crate) fn ingress(self, name: &str, mut spec: Value) -> Self {
        spec["ingressClassName"] = "sluice".into();
        self.with(json!({"kind": "Ingress", "metadata": {"name": name}, "spec": spec}))
    }

    /// Adds an Ingress of our class, created in a year.
    pub(crate) fn ingress_of(self, year: u16, name: &str, mut spec: Value) -> Self {
        spec["ingressClassName"] = "sluice".into();
        let created = format!("{year}-01-01T00:00:00Z");
        let metadata = json!({"name": name, "creationTimestamp": created});
        self.with(json!({"kind": "Ingress", "metadata": metadata, "spec": spec}))
    }

    /// Adds a Service with one unnamed port 80, and an endpoint for it.
    pub(crate) fn service(self, name: &str) -> Self {
        let ports = json!([{"port": 80, "targetPort": 8080}]);
        self.service_with(name, &ports)
            .slice(name, &json!([{"port": 8080}]), &["10.0.0.1"])
    }

    pub(crate) fn service_with(self, name: &str, ports: &Value) -> Self {
        let spec = json!({"ports": ports});
        self.with(json!({"kind": "Service", "metadata": {"name": name}, "spec": spec}))
    }

    pub(crate) fn slice(self, service: &str, ports: &Value, addresses: &[&str]) -> Self {
        let family = if addresses.iter().any(|one| one.contains(':')) {
            "IPv6"
        } else {
            "IPv4"
        };
        let name = format!("{service}-{}", self.snapshot.endpoint_slices.len());
        let labels = json!({"kubernetes.io/service-name": service});
        self.with(json!({
            "kind": "EndpointSlice",
            "metadata": {"name": name, "labels": labels},
            "addressType": family,
            "ports": ports,
            "endpoints": [{"addresses": addresses}],
        }))
    }

    pub(crate) fn translate(&self) -> Translation {
        translate(&self.snapshot, &self.options)
    }

    pub(crate) fn answers(&self) -> Answers {
        Answers::of(&self.translate().config)
    }

    /// The diagnostics as `object field Reason`.
    pub(crate) fn findings(&self) -> Vec<String> {
        let findings = self.translate().diagnostics.into_iter();
        findings
            .map(|one| format!("{} {} {}", one.object.name, one.field, one.reason))
            .collect()
    }

    /// The addresses behind the one backend there is.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        let backends = self.translate().config.backends;
        let [backend] = &backends.values().collect::<Vec<_>>()[..] else {
            panic!("{backends:?}")
        };
        backend
            .endpoints
            .iter()
            .map(|endpoint| endpoint.address.to_string())
            .collect()
    }
}

/// Where requests go.
pub(crate) struct Answers(RouteTable<String>);

impl Answers {
    pub(crate) fn of(config: &Config) -> Self {
        let default = config.default_backend.as_ref();
        Self(RouteTable::compile(&config.hosts, default, |_, rule| {
            describe(rule)
        }))
    }

    /// `service:port`, or the status of the answer when there is none.
    pub(crate) fn ask(&self, authority: &str, path: &str) -> &str {
        self.0
            .find(authority, path)
            .map_or("404", |route| &route.payload)
    }
}

fn describe(rule: &Rule) -> String {
    match &rule.target {
        Target::Backends(backends) => {
            let key = &backends[0].key;
            format!("{}:{}", key.service, key.port)
        }
        Target::Redirect(redirect) => format!("{} {}", redirect.code, redirect.location),
        Target::Respond(status) => status.to_string(),
        Target::Unavailable => "503".to_owned(),
    }
}

fn read<T: DeserializeOwned>(object: Value) -> Arc<T> {
    Arc::new(serde_json::from_value(object).unwrap())
}

/// An object of the API's type, as it is kept.
fn reduced<K: DeserializeOwned, T: From<K>>(object: Value) -> Arc<T> {
    Arc::new(T::from(serde_json::from_value::<K>(object).unwrap()))
}

/// A rule of a host with paths as (path type, path, service), port 80.
pub(crate) fn rule(host: &str, paths: &[(&str, &str, &str)]) -> Value {
    let paths = paths.iter().map(|(path_type, path, service)| {
        json!({"path": path, "pathType": path_type, "backend": backend(service)})
    });
    let http = json!({"paths": paths.collect::<Vec<_>>()});
    if host.is_empty() {
        json!({"http": http})
    } else {
        json!({"host": host, "http": http})
    }
}

/// A backend: port 80 of a Service.
pub(crate) fn backend(service: &str) -> Value {
    json!({"service": {"name": service, "port": {"number": 80}}})
}
