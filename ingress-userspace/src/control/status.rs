//! `status.loadBalancer` of Ingresses: where clients reach them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream;
use ingress_core::list::List;
use ingress_core::object::{Ingress, PublishedAddress};
use ingress_core::snapshot::Snapshot;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::networking::v1;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tracing::debug;

/// Which addresses to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// These, addresses or host names.
    Fixed(Vec<String>),
    /// Those of the load balancer of this Service (namespace, name).
    OfService(String, String),
    /// Those of the nodes that run a ready pod of this ingress.
    OfNodes {
        /// Internal addresses even where there are external ones.
        internal: bool,
    },
}

/// The addresses to write into Ingresses, sorted, without duplicates.
///
/// Source: ingress-nginx, `--publish-status-address`, `--publish-service`,
/// `--report-node-internal-ip-address`.
pub(super) fn addresses(which: &Addresses, snapshot: &Snapshot) -> BTreeSet<String> {
    match which {
        Addresses::Fixed(addresses) => addresses.iter().cloned().collect(),
        Addresses::OfService(namespace, name) => {
            let mut services = snapshot.services.iter();
            let service = services.find(|service| {
                *service.meta.namespace == **namespace && *service.meta.name == **name
            });
            let published = service.iter().flat_map(|service| &service.published);
            published.map(ToString::to_string).collect()
        }
        Addresses::OfNodes { internal } => {
            let ready = snapshot.pods.iter().filter(|pod| is_ready(pod));
            ready
                .flat_map(|pod| of_pod(pod, &snapshot.nodes, *internal))
                .collect()
        }
    }
}

/// Whether a pod takes requests: ready, and not about to end.
pub(super) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let is_ready = |condition: &k8s_openapi::api::core::v1::PodCondition| {
        condition.type_ == "Ready" && condition.status == "True"
    };
    pod.metadata.deletion_timestamp.is_none() && conditions.into_iter().any(is_ready)
}

fn of_pod(pod: &Pod, nodes: &List<Node>, internal: bool) -> Vec<String> {
    let node_name = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
    let node = nodes
        .iter()
        .find(|node| Some(&*node.name_any()) == node_name);
    let of_type = |wanted: &str| -> Vec<String> {
        let addresses = node.and_then(|node| node.status.as_ref()?.addresses.as_deref());
        let addresses = addresses.unwrap_or_default().iter();
        addresses
            .filter(|address| address.type_ == wanted)
            .map(|address| address.address.clone())
            .collect()
    };
    let external = of_type("ExternalIP");
    if !internal && !external.is_empty() {
        return external;
    }
    let own = of_type("InternalIP");
    if !own.is_empty() {
        return own;
    }
    let host_ip = pod
        .status
        .as_ref()
        .and_then(|status| status.host_ip.clone());
    host_ip.into_iter().collect()
}

/// Writes the addresses into each Ingress that has others, a few at a time; gives how many could
/// not be written and have to be tried again.
///
/// Each write carries the version that was read: one that was changed meanwhile comes again by
/// its watch.
pub(super) async fn write(
    client: &Client,
    ingresses: &[Arc<Ingress>],
    addresses: &BTreeSet<String>,
) -> usize {
    let wanted: Vec<_> = addresses.iter().map(|address| entry(address)).collect();
    let published: Vec<_> = wanted.iter().cloned().map(PublishedAddress::from).collect();
    let wanted: Arc<[_]> = wanted.into();
    let stale = ingresses
        .iter()
        .filter(|ingress| *ingress.addresses != *published);
    let writes: Vec<_> = stale
        .map(|ingress| write_one(client.clone(), Arc::clone(ingress), Arc::clone(&wanted)))
        .collect();
    let mut outcomes = stream::iter(writes).buffer_unordered(WRITES_MAX);
    let mut failed = 0;
    while let Some(has_failed) = outcomes.next().await {
        failed += usize::from(has_failed);
    }
    failed
}

/// Whether the write failed in a way that another try can mend.
async fn write_one(
    client: Client,
    ingress: Arc<Ingress>,
    wanted: Arc<[v1::IngressLoadBalancerIngress]>,
) -> bool {
    let meta = &ingress.meta;
    let api = Api::<v1::Ingress>::namespaced(client, &meta.namespace);
    match replace(&api, &meta.name, &meta.resource_version, &wanted).await {
        Ok(()) => false,
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => false,
        Err(error) => {
            debug!(ingress = &*meta.name, %error, "the status can't be written");
            true
        }
    }
}

/// Takes the addresses of each Ingress back, a few at a time. `is_published` says whether there
/// may be addresses that were written a moment ago and have not come by the watch yet.
pub(super) async fn take_back(client: &Client, ingresses: &[Arc<Ingress>], is_published: bool) {
    let published = ingresses
        .iter()
        .filter(|ingress| is_published || !ingress.addresses.is_empty());
    let writes: Vec<_> = published
        .map(|ingress| take_back_one(client.clone(), Arc::clone(ingress)))
        .collect();
    let mut outcomes = stream::iter(writes).buffer_unordered(WRITES_MAX);
    while let Some(outcome) = outcomes.next().await {
        if let Err(error) = outcome {
            debug!(%error, "an address can't be taken back");
        }
    }
}

/// Goes by what was seen of it last, and where that is old, by what it is.
async fn take_back_one(client: Client, ingress: Arc<Ingress>) -> kube::Result<()> {
    let meta = &ingress.meta;
    let api = Api::<v1::Ingress>::namespaced(client, &meta.namespace);
    let mut version = meta.resource_version.clone();
    let mut is_published = !ingress.addresses.is_empty();
    for _ in 0..TAKE_BACK_TRIES {
        if is_published {
            match replace(&api, &meta.name, &version, &[]).await {
                Err(kube::Error::Api(status)) if status.is_conflict() => {}
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                outcome => return outcome,
            }
        }
        // One of a list: to get it by its name would be another permission.
        let by_name = ListParams::default().fields(&format!("metadata.name={}", meta.name));
        let Some(now) = api.list(&by_name).await?.items.pop() else {
            return Ok(());
        };
        let balancer = now.status.and_then(|status| status.load_balancer);
        let addresses = balancer.and_then(|balancer| balancer.ingress);
        is_published = addresses.is_some_and(|addresses| !addresses.is_empty());
        if !is_published {
            return Ok(());
        }
        version = now.metadata.resource_version.unwrap_or_default().into();
    }
    Ok(())
}

/// Replaces the addresses of an Ingress that is still of this version.
async fn replace(
    api: &Api<v1::Ingress>,
    name: &str,
    version: &str,
    wanted: &[v1::IngressLoadBalancerIngress],
) -> kube::Result<()> {
    let patch = json!({
        "metadata": { "resourceVersion": version },
        "status": { "loadBalancer": { "ingress": wanted } },
    });
    let (parameters, patch) = (PatchParams::default(), Patch::Merge(patch));
    api.patch_status(name, &parameters, &patch).await.map(drop)
}

fn entry(address: &str) -> v1::IngressLoadBalancerIngress {
    let is_ip = address.parse::<IpAddr>().is_ok();
    v1::IngressLoadBalancerIngress {
        ip: is_ip.then(|| address.to_owned()),
        hostname: (!is_ip).then(|| address.to_owned()),
        ports: None,
    }
}

/// Writes at one time.
const WRITES_MAX: usize = 8;

/// How often an Ingress is looked at that somebody else changes meanwhile.
const TAKE_BACK_TRIES: usize = 3;

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;
    use serde_json::Value;

    use super::*;

    fn read<T: serde::de::DeserializeOwned>(value: Value) -> Arc<T> {
        Arc::new(serde_json::from_value(value).unwrap())
    }

    fn node(name: &str, addresses: &[(&str, &str)]) -> Arc<Node> {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|(kind, address)| json!({"type": kind, "address": address}))
            .collect();
        read(json!({"metadata": {"name": name}, "status": {"addresses": addresses}}))
    }

    fn pod(node: &str, ready: &str, deleted: bool) -> Arc<Pod> {
        let deleted = deleted.then_some("2026-01-01T00:00:00Z");
        read(json!({
            "metadata": {"name": format!("sluice-{node}"), "deletionTimestamp": deleted},
            "spec": {"nodeName": node, "containers": []},
            "status": {"hostIP": "10.9.9.9", "conditions": [{"type": "Ready", "status": ready}]},
        }))
    }

    fn of_nodes(internal: bool, snapshot: &Snapshot) -> Vec<String> {
        let set = addresses(&Addresses::OfNodes { internal }, snapshot);
        set.into_iter().collect()
    }

    #[test]
    fn nodes_count_while_they_run_a_ready_pod() {
        let snapshot = Snapshot {
            nodes: List::from_iter([
                node(
                    "a",
                    &[("InternalIP", "10.0.0.1"), ("ExternalIP", "192.0.2.1")],
                ),
                node(
                    "b",
                    &[("InternalIP", "10.0.0.2"), ("InternalIP", "fd00::2")],
                ),
                node("c", &[("InternalIP", "10.0.0.3")]),
                node("d", &[("InternalIP", "10.0.0.4")]),
            ]),
            pods: List::from_iter([
                pod("a", "True", false),
                pod("b", "True", false),
                pod("c", "False", false),
                pod("d", "True", true),
                pod("unknown", "True", false),
            ]),
            ..Snapshot::default()
        };
        assert_eq!(
            of_nodes(false, &snapshot),
            ["10.0.0.2", "10.9.9.9", "192.0.2.1", "fd00::2"]
        );
        assert_eq!(
            of_nodes(true, &snapshot),
            ["10.0.0.1", "10.0.0.2", "10.9.9.9", "fd00::2"]
        );
    }

    #[test]
    fn a_service_lends_its_load_balancer() {
        let service: Arc<Service> = read(json!({
            "metadata": {"namespace": "edge", "name": "lb"},
            "spec": {"externalIPs": ["192.0.2.9"]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.8"}, {"hostname": "lb.example"}]}},
        }));
        let snapshot = Snapshot {
            services: List::from_iter([Arc::new(Service::clone(&service).into())]),
            ..Snapshot::default()
        };
        let which = Addresses::OfService("edge".to_owned(), "lb".to_owned());
        let found: Vec<_> = addresses(&which, &snapshot).into_iter().collect();
        assert_eq!(found, ["192.0.2.8", "192.0.2.9", "lb.example"]);
    }

    #[test]
    fn host_names_and_addresses_have_fields_of_their_own() {
        assert_eq!(entry("192.0.2.1").ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(entry("lb.example").hostname.as_deref(), Some("lb.example"));
    }
}
