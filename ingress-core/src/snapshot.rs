//! Input of a decision: Kubernetes objects as observed at one instant.
//!
//! A source (the Kubernetes API or a directory of manifests) fills it, `translate` reads it.
//! A source keeps objects while it hands out snapshots, so snapshots share them. Kinds of which there
//! are many are reduced to what is read (see `object`). Snapshots that follow each other share what
//! has not changed: kinds, and chunks of the others (see [`List`]).

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret};
use k8s_openapi::api::networking::v1::IngressClass;

use crate::list::List;
use crate::object::{EndpointSlice, Ingress, Service};

/// Every object that has a say in the configuration, in any order.
///
/// No two objects of one kind have the same namespace and name: a source sees to it. An object
/// without a namespace counts as one of namespace `default`.
#[derive(Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Of every class: `translate` picks ours.
    pub ingresses: List<Ingress>,
    /// Of every controller.
    pub ingress_classes: List<IngressClass>,
    /// Services of the namespaces that have an Ingress.
    pub services: List<Service>,
    /// Their endpoints.
    pub endpoint_slices: List<EndpointSlice>,
    /// Secrets that TLS sections and annotations name; others do no harm.
    pub secrets: List<Secret>,
    /// ConfigMaps that IngressClasses name as their parameters, and those of services; others do
    /// no harm.
    pub config_maps: List<ConfigMap>,
    /// Nodes, where somebody asked for them: their zones and addresses.
    pub nodes: List<Node>,
    /// Pods of the daemon itself.
    pub pods: List<Pod>,
    /// Addresses of external names, sorted. A name that has none is there with none; one that
    /// was not looked up yet is not there.
    pub names: BTreeMap<Arc<str>, Vec<IpAddr>>,
}

impl fmt::Debug for Snapshot {
    /// Counts only: Secrets must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("ingresses", &self.ingresses.len())
            .field("ingress_classes", &self.ingress_classes.len())
            .field("services", &self.services.len())
            .field("endpoint_slices", &self.endpoint_slices.len())
            .field("secrets", &self.secrets.len())
            .field("config_maps", &self.config_maps.len())
            .field("nodes", &self.nodes.len())
            .field("pods", &self.pods.len())
            .field("names", &self.names.len())
            .finish()
    }
}
