//! The objects of the bench, made through the API as its users make them.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use ingress_tests::cluster::control::ControlPlane;

/// How many of each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Size {
    pub(super) ingresses: usize,
    pub(super) hosts: usize,
    pub(super) certificates: usize,
    pub(super) endpoints_of_a_host: usize,
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ingresses,
            hosts,
            certificates,
            ..
        } = self;
        write!(
            f,
            "{ingresses} Ingresses, {hosts} hosts, {certificates} certs"
        )
    }
}

/// The objects on an API server.
pub(super) struct Objects<'a> {
    plane: &'a ControlPlane,
    size: Size,
}

impl<'a> Objects<'a> {
    pub(super) fn new(plane: &'a ControlPlane, size: Size) -> Self {
        Self { plane, size }
    }

    /// Makes everything but certificates.
    pub(super) fn create(&self) -> Result<()> {
        let client = self.plane.client();
        self.block_on(async {
            let class = json!({
                "metadata": { "name": "sluice" },
                "spec": { "controller": "sluice.dev/ingress-controller" },
            });
            create::<IngressClass>(Api::all(client.clone()), class).await?;
            for number in 0..NAMESPACES {
                let namespace = json!({ "metadata": { "name": namespace(number) } });
                create::<Namespace>(Api::all(client.clone()), namespace).await?;
            }
            Ok(())
        })?;
        let hosts = 0..self.size.hosts;
        self.all(
            hosts
                .clone()
                .map(|host| self.make::<Service>(host, service(host))),
        )?;
        let endpoints = self.size.endpoints_of_a_host;
        self.all(hosts.map(|host| self.make::<EndpointSlice>(host, slice(host, endpoints))))?;
        let ingresses = 0..self.size.ingresses;
        self.all(ingresses.map(|number| {
            let host = number % self.size.hosts;
            self.make::<Ingress>(host, ingress(number, host))
        }))
    }

    /// Makes certificates, and has an Ingress name each.
    pub(super) fn add_certificates(&self) -> Result<()> {
        let numbers = 0..self.size.certificates;
        let secrets = numbers.clone().map(secret);
        let secrets = secrets.collect::<Result<Vec<_>>>()?;
        let secrets = secrets.into_iter().enumerate();
        self.all(secrets.map(|(host, secret)| self.make::<Secret>(host, secret)))?;
        self.all(numbers.map(|host| {
            let tls = json!([{ "hosts": [host_name(host)], "secretName": format!("tls{host}") }]);
            self.patch(host, json!({ "spec": { "tls": tls } }))
        }))
    }

    /// How long the API server takes for the lists that a daemon needs, page by page.
    pub(super) fn list(&self) -> Result<Duration> {
        let client = self.plane.client();
        self.block_on(async {
            let began = Instant::now();
            list::<Ingress>(client.clone()).await?;
            list::<Service>(client.clone()).await?;
            list::<EndpointSlice>(client.clone()).await?;
            list::<Secret>(client.clone()).await?;
            Ok(began.elapsed())
        })
    }

    /// Ingresses that have an address.
    pub(super) fn with_address(&self) -> Result<usize> {
        let client = self.plane.client();
        let ingresses = self.block_on(async {
            let api = Api::<Ingress>::all(client);
            Ok(api.list(&ListParams::default()).await?)
        })?;
        let has_address = |ingress: &&Ingress| {
            let status = ingress.status.as_ref();
            status.is_some_and(|status| status.load_balancer.is_some())
        };
        Ok(ingresses.items.iter().filter(has_address).count())
    }

    /// The host of an Ingress.
    pub(super) fn host_of(&self, number: usize) -> String {
        host_name(number % self.size.hosts)
    }

    /// What the API server sends to a validating webhook when somebody adds an Ingress for a host that
    /// others have, too.
    pub(super) fn review(&self) -> Value {
        let object = ingress(self.size.ingresses, 0);
        json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "review",
                "kind": {"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"},
                "operation": "CREATE",
                "object": object,
            },
        })
    }

    /// Gives an Ingress another path; returns when the API server has written it.
    pub(super) fn set_path(&self, number: usize, path: &str) -> Result<()> {
        self.block_on(self.path_patch(number, path))
    }

    /// Gives the first `count` Ingresses another path.
    pub(super) fn set_paths(&self, count: usize, path: &str) -> Result<()> {
        self.all((0..count).map(|number| self.path_patch(number, path)))
    }

    fn path_patch(&self, number: usize, path: &str) -> BoxFuture<'static, Result<()>> {
        let host = number % self.size.hosts;
        let mut changed = ingress(number, host);
        changed["spec"]["rules"][0]["http"]["paths"][0]["path"] = path.into();
        self.patch(
            number,
            json!({ "spec": { "rules": changed["spec"]["rules"] } }),
        )
    }

    fn patch(&self, number: usize, patch: Value) -> BoxFuture<'static, Result<()>> {
        let namespace = namespace(number % self.size.hosts);
        let api = Api::<Ingress>::namespaced(self.plane.client(), &namespace);
        Box::pin(async move {
            let name = ingress_name(number);
            api.patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
            Ok(())
        })
    }

    fn make<K>(&self, host: usize, object: Value) -> BoxFuture<'static, Result<()>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Object,
    {
        let api = Api::<K>::namespaced(self.plane.client(), &namespace(host));
        Box::pin(create(api, object))
    }

    fn all(&self, made: impl Iterator<Item = BoxFuture<'static, Result<()>>>) -> Result<()> {
        let made = stream::iter(made).buffer_unordered(AT_A_TIME);
        self.block_on(made.try_collect::<()>())
    }

    fn block_on<T>(&self, future: impl Future<Output = Result<T>>) -> Result<T> {
        self.plane.driver().block_on(future)
    }
}

/// What the API can make of an object.
pub(super) trait Object:
    Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static
{
}
impl<K: Clone + fmt::Debug + Serialize + DeserializeOwned + Send + Sync + 'static> Object for K {}

async fn create<K: Object>(api: Api<K>, object: Value) -> Result<()> {
    let object = serde_json::from_value(object)?;
    let made = api.create(&PostParams::default(), &object).await;
    made.map(drop).context("failed to create an object")
}

async fn list<K: Resource<DynamicType = ()> + Object>(client: Client) -> Result<()> {
    let api = Api::<K>::all(client);
    let mut page = ListParams::default().limit(500);
    loop {
        let found = api.list(&page).await?;
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(()),
        }
    }
}

fn namespace(host: usize) -> String {
    format!("team{}", host % NAMESPACES)
}

fn host_name(host: usize) -> String {
    format!("host{host}.bench.example.com")
}

fn ingress_name(number: usize) -> String {
    format!("ingress{number}")
}

fn service(host: usize) -> Value {
    json!({
        "metadata": { "name": format!("service{host}") },
        "spec": { "clusterIP": "None", "ports": [{ "port": 80, "targetPort": 8080 }] },
    })
}

fn slice(host: usize, endpoints: usize) -> Value {
    let address = |number: usize| {
        let [_, _, high, low] = u32::try_from(host * endpoints + number)
            .unwrap_or(0)
            .to_be_bytes();
        format!("10.99.{high}.{low}")
    };
    let endpoints: Vec<_> = (0..endpoints)
        .map(|number| json!({ "addresses": [address(number)], "conditions": { "ready": true } }))
        .collect();
    json!({
        "metadata": {
            "name": format!("service{host}-a"),
            "labels": { "kubernetes.io/service-name": format!("service{host}") },
        },
        "addressType": "IPv4",
        "ports": [{ "port": 8080, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

fn ingress(number: usize, host: usize) -> Value {
    let backend = json!({
        "service": { "name": format!("service{host}"), "port": { "number": 80 } },
    });
    let path =
        json!({ "path": format!("/part{number}"), "pathType": "Prefix", "backend": backend });
    json!({
        "metadata": { "name": ingress_name(number) },
        "spec": {
            "ingressClassName": "sluice",
            "rules": [{ "host": host_name(host), "http": { "paths": [path] } }],
        },
    })
}

fn secret(host: usize) -> Result<Value> {
    let certified = rcgen::generate_simple_self_signed(vec![host_name(host)])?;
    Ok(json!({
        "metadata": { "name": format!("tls{host}") },
        "type": "kubernetes.io/tls",
        "stringData": {
            "tls.crt": certified.cert.pem(),
            "tls.key": certified.signing_key.serialize_pem(),
        },
    }))
}

const NAMESPACES: usize = 50;
/// Requests to the API server at one time.
const AT_A_TIME: usize = 32;
