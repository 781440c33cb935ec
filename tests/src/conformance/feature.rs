//! A feature in the cluster: its namespace, its Ingress, an echo server for each backend.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use super::suite::IngressSpec;
use crate::cluster::Cluster;
use crate::curl::Request;
use crate::rig::wait_until;

/// A feature that is set up; it goes with its namespace when this is dropped.
pub struct Feature {
    cluster: Arc<Cluster>,
    ingress: IngressSpec,
    namespace: String,
    /// Where clients come to, from the Ingress's status.
    pub(super) address: String,
    /// The certificate of its hosts.
    pub(super) certificate: Option<PathBuf>,
}

impl Feature {
    /// Applies the objects of a feature and waits until its pods are ready and its Ingress says where
    /// it is reached.
    pub fn set_up(cluster: &Arc<Cluster>, ingress: &IngressSpec) -> Result<Self> {
        let mut feature = Self {
            namespace: format!("conformance-{}", ingress.name),
            address: String::new(),
            certificate: None,
            cluster: Arc::clone(cluster),
            ingress: ingress.clone(),
        };
        feature.certificate = feature.apply_certificates()?;
        let objects = feature.objects();
        cluster.plane.apply(&serde_json::to_string(&objects)?)?;
        for service in feature.services().keys() {
            let deployment = format!("deployment/{}-{service}", ingress.name);
            feature.kubectl(&["rollout", "status", &deployment, "--timeout=60s"])?;
        }
        if ingress.has_address.unwrap_or(true) {
            feature.address = feature.wait_for_address(&ingress.name)?;
            feature.wait_for_backends()?;
        }
        Ok(feature)
    }

    /// Waits until no path is answered with 503: endpoints are written after an address may be, and
    /// the suite takes them for given.
    fn wait_for_backends(&self) -> Result<()> {
        let of_paths = self.ingress.rules.iter().flat_map(|rule| {
            let host = match &*rule.host {
                "" => ANY_HOST.to_owned(),
                host => host.replace('*', "any"),
            };
            rule.paths
                .iter()
                .map(move |path| (host.clone(), path.path.as_str()))
        });
        let of_default = self.ingress.default_backend.iter();
        let of_default = of_default.map(|_| (ANY_HOST.to_owned(), "/"));
        for (host, path) in of_paths.chain(of_default) {
            let request = Request::get(&format!("http://{}{path}", self.address), &host);
            wait_until(&format!("endpoints for {host}{path}"), || {
                Ok(request.send(self.client())?.status != 503)
            })?;
        }
        Ok(())
    }

    /// The host that requests are sent from.
    pub(super) fn client(&self) -> &crate::host::Host {
        &self.cluster.network.client
    }

    /// Asks as often as the feature says, and counts the pods that answer.
    pub fn is_spread(&self) -> Result<()> {
        let ingress = &self.ingress;
        let replicas = ingress.replicas.context("no number of replicas")?;
        let expect = ingress.expect.as_ref().context("no expectation")?;
        let url = ingress.url.as_deref().context("no URL")?;
        let host = url.trim_start_matches("http://");
        for service in self.services().keys() {
            let deployment = format!("deployment/{}-{service}", ingress.name);
            self.kubectl(&["scale", &deployment, &format!("--replicas={replicas}")])?;
            self.kubectl(&["rollout", "status", &deployment, "--timeout=60s"])?;
            self.cluster.plane.wait_for_endpoints(
                &self.namespace,
                service,
                &["IPv4"],
                replicas.try_into()?,
            )?;
        }
        let mut pods = BTreeSet::new();
        for _ in 0..ingress.requests.context("no number of requests")? {
            let request = Request::get(&format!("http://{}/", self.address), host);
            let response = request.send(self.client())?;
            ensure!(
                response.status == expect.status,
                "status {}",
                response.status
            );
            pods.insert(response.pod()?);
        }
        ensure!(
            pods.len() == expect.distinct_pods,
            "{} pods answered",
            pods.len()
        );
        Ok(())
    }

    /// The status of the feature's Ingress stays empty, though one that came later has an address.
    pub fn has_no_address(&self) -> Result<()> {
        let mut witness = self.ingress_object("witness");
        witness["spec"]["ingressClassName"] = Value::Null;
        witness["spec"]["rules"][0]["host"] = "witness".into();
        self.cluster.plane.apply(&witness.to_string())?;
        self.wait_for_address("witness")?;
        let address = self.address_of(&self.ingress.name)?;
        ensure!(address.is_empty(), "its status has the address {address}");
        Ok(())
    }

    fn wait_for_address(&self, ingress: &str) -> Result<String> {
        let has_address = || Ok(!self.address_of(ingress)?.is_empty());
        wait_until(
            &format!("an address in the status of `{ingress}`"),
            has_address,
        )?;
        self.address_of(ingress)
    }

    fn address_of(&self, ingress: &str) -> Result<String> {
        let path = "--output=jsonpath={.status.loadBalancer.ingress[0].ip}";
        self.kubectl(&["get", "ingress", ingress, path])
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let namespace = format!("--namespace={}", self.namespace);
        self.cluster
            .plane
            .kubectl(&[arguments, &[&namespace]].concat())
    }

    /// A self-signed certificate for the hosts under `tls`, as a file too.
    fn apply_certificates(&self) -> Result<Option<PathBuf>> {
        self.cluster
            .plane
            .apply(&object("v1", "Namespace", &self.namespace, None).to_string())?;
        let Some(tls) = self.ingress.tls.first() else {
            return Ok(None);
        };
        let made = rcgen::generate_simple_self_signed(tls.hosts.clone())?;
        let mut secret = object("v1", "Secret", &tls.secret_name, Some(&self.namespace));
        secret["type"] = "kubernetes.io/tls".into();
        secret["stringData"] = json!({
            "tls.crt": made.cert.pem(), "tls.key": made.signing_key.serialize_pem(),
        });
        self.cluster.plane.apply(&secret.to_string())?;
        let file = self.cluster.path(&format!("{}.crt", self.namespace));
        fs::write(&file, made.cert.pem())?;
        Ok(Some(file))
    }

    fn objects(&self) -> Value {
        let mut items = vec![self.ingress_object(&self.ingress.name)];
        for (service, port) in self.services() {
            items.push(self.deployment(&service));
            items.push(self.service(&service, &port));
        }
        json!({"apiVersion": "v1", "kind": "List", "items": items})
    }

    /// Services that the Ingress names, with their ports; a port with a name is 8080.
    fn services(&self) -> BTreeMap<String, Value> {
        let of_default = self.ingress.default_backend.iter().map(|backend| {
            let service = backend["service"].as_str().unwrap_or_default();
            (service.to_owned(), backend["port"].clone())
        });
        let paths = self.ingress.rules.iter().flat_map(|rule| &rule.paths);
        let of_paths = paths.map(|path| (path.service.clone(), path.port.clone()));
        of_default.chain(of_paths).collect()
    }

    fn ingress_object(&self, name: &str) -> Value {
        let spec = &self.ingress;
        let kind = "networking.k8s.io/v1";
        let mut ingress = object(kind, "Ingress", name, Some(&self.namespace));
        let backend =
            |service: &Value, port: &Value| json!({"service": {"name": service, "port": port}});
        let rules = spec.rules.iter().map(|rule| {
            let paths = rule.paths.iter().map(|path| {
                json!({
                    "path": path.path,
                    "pathType": path.path_type,
                    "backend": backend(&path.service.as_str().into(), &path.port),
                })
            });
            json!({"host": rule.host, "http": {"paths": paths.collect::<Vec<_>>()}})
        });
        let tls = spec.tls.iter();
        let tls = tls.map(|tls| json!({"hosts": tls.hosts, "secretName": tls.secret_name}));
        ingress["spec"] = json!({
            "ingressClassName": spec.ingress_class_name,
            "defaultBackend": spec.default_backend.as_ref()
                .map(|own| backend(&own["service"], &own["port"])),
            "rules": rules.collect::<Vec<_>>(),
            "tls": tls.collect::<Vec<_>>(),
        });
        ingress
    }

    fn deployment(&self, service: &str) -> Value {
        let name = format!("{}-{service}", self.ingress.name);
        let mut deployment = object("apps/v1", "Deployment", &name, Some(&self.namespace));
        let field = |name: &str, path: &str| json!({"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}});
        deployment["spec"] = json!({
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{
                    "name": "ingress-conformance-echo",
                    "image": "sluice.test/origin",
                    "env": [
                        field("POD_NAME", "metadata.name"),
                        field("NAMESPACE", "metadata.namespace"),
                        {"name": "INGRESS_NAME", "value": self.ingress.name},
                        {"name": "SERVICE_NAME", "value": service},
                        {"name": "PORT", "value": "3000"},
                    ],
                    "ports": [{"name": "http", "containerPort": 3000}],
                    "readinessProbe": {
                        "httpGet": {"path": "/health", "port": 3000}, "periodSeconds": 1,
                    },
                }]},
            },
        });
        deployment
    }

    fn service(&self, name: &str, port: &Value) -> Value {
        let mut service = object("v1", "Service", name, Some(&self.namespace));
        let mut of_port =
            json!({"port": port["number"].as_u64().unwrap_or(8080), "targetPort": 3000});
        if port["name"].is_string() {
            of_port["name"] = port["name"].clone();
        }
        service["spec"] = json!({
            "selector": {"app": format!("{}-{name}", self.ingress.name)},
            "ports": [of_port],
        });
        service
    }
}

impl Drop for Feature {
    fn drop(&mut self) {
        // Its Ingresses are gone when this returns; the namespace itself takes longer.
        let _ = self.kubectl(&["delete", "ingress", "--all"]);
        let namespace = ["delete", "namespace", &self.namespace, "--wait=false"];
        let _ = self.cluster.plane.kubectl(&namespace);
    }
}

fn object(version: &str, kind: &str, name: &str, namespace: Option<&str>) -> Value {
    json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
    })
}

/// A host that no rule names.
const ANY_HOST: &str = "any.test";
