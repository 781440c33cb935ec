//! Drops from objects what nobody reads before they are stored: at 10,000 of each kind it is most
//! of the memory. Kinds of which there are many have types of their own (`ingress_core::object`).

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, NodeSpec, NodeStatus, Pod, PodSpec, PodStatus,
};
use k8s_openapi::api::networking::v1::IngressClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;

pub(super) fn ingress_class(mut object: IngressClass) -> IngressClass {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object
}

pub(super) fn secret(mut object: Secret) -> Secret {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    // Of those that ACME writes.
    let marks = object.metadata.annotations.take().map(|mut annotations| {
        annotations.retain(|key, _| key.starts_with(ingress_core::acme::MARKS));
        annotations
    });
    object.metadata.annotations = marks.filter(|marks| !marks.is_empty());
    object
}

/// The version of a Secret.
pub(super) fn secret_version(object: PartialObjectMeta<Secret>) -> Box<str> {
    object.metadata.resource_version.unwrap_or_default().into()
}

pub(super) fn config_map(mut object: ConfigMap) -> ConfigMap {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object.metadata.annotations = None;
    object.binary_data = None;
    object
}

/// That it is there is all there is to know.
pub(super) fn namespace(_: Namespace) {}

/// Keeps labels (zone), addresses and the pod network.
pub(super) fn node(mut object: Node) -> Node {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    object.spec = object.spec.map(|spec| NodeSpec {
        pod_cidr: spec.pod_cidr,
        pod_cidrs: spec.pod_cidrs,
        ..NodeSpec::default()
    });
    object.status = object.status.map(|status| NodeStatus {
        addresses: status.addresses,
        ..NodeStatus::default()
    });
    object
}

/// Keeps the node, the addresses and the conditions.
pub(super) fn pod(mut object: Pod) -> Pod {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    object.metadata.labels = None;
    object.spec = object.spec.map(|spec| PodSpec {
        node_name: spec.node_name,
        ..PodSpec::default()
    });
    object.status = object.status.map(|status| PodStatus {
        conditions: status.conditions,
        host_ip: status.host_ip,
        host_ips: status.host_ips,
        phase: status.phase,
        ..PodStatus::default()
    });
    object
}

fn metadata(metadata: &mut ObjectMeta) {
    metadata.managed_fields = None;
    metadata.owner_references = None;
    metadata.finalizers = None;
    metadata.generate_name = None;
    metadata.self_link = None;
    if let Some(annotations) = &mut metadata.annotations {
        annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    }
}
