//! Endpoints objects, which the API server mirrors to EndpointSlices for Services without a selector;
//! for objects of files that is done here.
//!
//! Source: Kubernetes, "EndpointSlice mirroring": a slice for each subset, not for objects with the
//! label `endpointslice.kubernetes.io/skip-mirror`.

use std::sync::Arc;

use ingress_core::object::{EndpointSlice, Meta};
use k8s_openapi::api::core::v1;
use k8s_openapi::api::discovery::v1 as discovery;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// The slices of an Endpoints object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Endpoints {
    pub(super) meta: Meta,
    pub(super) slices: Arc<[Arc<EndpointSlice>]>,
}

impl From<v1::Endpoints> for Endpoints {
    fn from(object: v1::Endpoints) -> Self {
        let v1::Endpoints { metadata, subsets } = object;
        let labels = metadata.labels.as_ref();
        let is_skipped = labels.is_some_and(|labels| labels.contains_key(SKIP_LABEL));
        let subsets = subsets.unwrap_or_default();
        let subsets = subsets.into_iter().filter(|_| !is_skipped).enumerate();
        let slices = subsets.flat_map(|(index, subset)| slices(&metadata, index, subset));
        let slices = slices.map(|slice| Arc::new(slice.into())).collect();
        Self {
            meta: metadata.into(),
            slices,
        }
    }
}

/// A slice for the addresses of each family, ready ones and others.
fn slices(
    metadata: &ObjectMeta,
    index: usize,
    subset: v1::EndpointSubset,
) -> Vec<discovery::EndpointSlice> {
    let v1::EndpointSubset {
        addresses,
        not_ready_addresses,
        ports,
    } = subset;
    let endpoint = |is_ready: bool| {
        move |address: v1::EndpointAddress| discovery::Endpoint {
            addresses: vec![address.ip],
            conditions: Some(discovery::EndpointConditions {
                ready: Some(is_ready),
                ..discovery::EndpointConditions::default()
            }),
            ..discovery::Endpoint::default()
        }
    };
    let ready = addresses.into_iter().flatten().map(endpoint(true));
    let others = not_ready_addresses.into_iter().flatten();
    let all = ready.chain(others.map(endpoint(false)));
    let is_ipv6 = |one: &discovery::Endpoint| one.addresses.iter().any(|text| text.contains(':'));
    let (ipv6, ipv4): (Vec<_>, Vec<_>) = all.partition(is_ipv6);
    let ports: Vec<_> = ports.unwrap_or_default().into_iter().map(port).collect();
    let families = [("IPv4", ipv4), ("IPv6", ipv6)];
    let families = families.into_iter().filter(|(_, all)| !all.is_empty());
    let name = metadata.name.as_deref().unwrap_or_default();
    families
        .map(|(family, endpoints)| discovery::EndpointSlice {
            metadata: ObjectMeta {
                name: Some(format!("{name}-{index}-{}", family.to_ascii_lowercase())),
                namespace: metadata.namespace.clone(),
                labels: Some([(SERVICE_LABEL.to_owned(), name.to_owned())].into()),
                ..ObjectMeta::default()
            },
            address_type: family.to_owned(),
            endpoints,
            ports: Some(ports.clone()),
        })
        .collect()
}

fn port(port: v1::EndpointPort) -> discovery::EndpointPort {
    discovery::EndpointPort {
        app_protocol: port.app_protocol,
        name: port.name,
        port: Some(port.port),
        protocol: port.protocol,
    }
}

const SERVICE_LABEL: &str = "kubernetes.io/service-name";
const SKIP_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
