//! Drops from objects what nobody reads before they are stored: at 10,000 of each kind it is most
//! of the memory.

use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, Node, NodeStatus, Pod, PodSpec, PodStatus, Secret, Service,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::PartialObjectMeta;

pub(super) fn ingress(object: &mut Ingress) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
}

pub(super) fn ingress_class(object: &mut IngressClass) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
}

/// Keeps `status.loadBalancer`, which `--publish-service` copies.
pub(super) fn service(object: &mut Service) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object.metadata.annotations = None;
    if let Some(spec) = &mut object.spec {
        spec.selector = None;
    }
    if let Some(status) = &mut object.status {
        status.conditions = None;
    }
}

/// Keeps the label that names the Service.
pub(super) fn endpoint_slice(object: &mut EndpointSlice) {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    if let Some(labels) = &mut object.metadata.labels {
        labels.retain(|key, _| key == "kubernetes.io/service-name");
    }
    for endpoint in &mut object.endpoints {
        endpoint.target_ref = None;
        endpoint.deprecated_topology = None;
        endpoint.hostname = None;
        endpoint.node_name = None;
    }
}

pub(super) fn secret(object: &mut Secret) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object.metadata.annotations = None;
}

pub(super) fn secret_metadata(object: &mut PartialObjectMeta<Secret>) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object.metadata.annotations = None;
}

pub(super) fn config_map(object: &mut ConfigMap) {
    metadata(&mut object.metadata);
    object.metadata.labels = None;
    object.metadata.annotations = None;
    object.binary_data = None;
}

pub(super) fn namespace(object: &mut Namespace) {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    object.spec = None;
    object.status = None;
}

/// Keeps labels (zone) and addresses.
pub(super) fn node(object: &mut Node) {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    object.spec = None;
    object.status = object.status.take().map(|status| NodeStatus {
        addresses: status.addresses,
        ..NodeStatus::default()
    });
}

/// Keeps the node, the addresses and the conditions.
pub(super) fn pod(object: &mut Pod) {
    metadata(&mut object.metadata);
    object.metadata.annotations = None;
    object.metadata.labels = None;
    object.spec = object.spec.take().map(|spec| PodSpec {
        node_name: spec.node_name,
        ..PodSpec::default()
    });
    object.status = object.status.take().map(|status| PodStatus {
        conditions: status.conditions,
        host_ip: status.host_ip,
        host_ips: status.host_ips,
        phase: status.phase,
        ..PodStatus::default()
    });
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
