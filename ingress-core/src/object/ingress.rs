//! An Ingress.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1;
use serde::{Deserialize, Serialize};

use super::{Meta, boxed};
use crate::annotation;

/// An Ingress, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ingress {
    /// Its name and version.
    pub meta: Meta,
    /// Those annotations that can have a say.
    pub annotations: BTreeMap<String, String>,
    /// `spec.ingressClassName`.
    pub class: Option<Box<str>>,
    /// `spec.defaultBackend`.
    pub default_backend: Option<Box<IngressBackend>>,
    /// `spec.rules`.
    pub rules: Box<[IngressRule]>,
    /// `spec.tls`.
    pub tls: Box<[IngressTls]>,
    /// `status.loadBalancer.ingress`, without ports.
    pub addresses: Box<[PublishedAddress]>,
}

/// The paths of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressRule {
    /// Empty for every host.
    pub host: Arc<str>,
    /// `http.paths`.
    pub paths: Box<[IngressPath]>,
}

/// A path with its backend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressPath {
    /// Empty where there is none.
    pub path: Arc<str>,
    /// How it is compared.
    pub path_type: PathType,
    /// Where requests go.
    pub backend: IngressBackend,
}

/// How a path is compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PathType {
    /// Byte for byte.
    Exact,
    /// By path elements.
    Prefix,
    /// As the controller likes.
    ImplementationSpecific,
    /// Something that no API server lets pass.
    Other(Box<str>),
}

/// Where requests go. Exactly one of both makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressBackend {
    /// To a Service.
    pub service: Option<ServiceBackend>,
    /// To something else.
    pub resource: Option<Box<ResourceBackend>>,
}

/// A Service with a port; exactly one of port name and port number makes sense.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceBackend {
    /// Of the Service.
    pub name: Arc<str>,
    /// `port.name`.
    pub port_name: Option<Box<str>>,
    /// `port.number`, as found.
    pub port_number: Option<i32>,
}

/// An object that is no Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceBackend {
    /// Its kind.
    pub kind: Box<str>,
    /// Its name.
    pub name: Box<str>,
}

/// A TLS section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IngressTls {
    /// Hosts that the certificate is for; none means those of the rules.
    pub hosts: Box<[Arc<str>]>,
    /// The Secret with the certificate.
    pub secret_name: Option<Box<str>>,
}

/// Where clients reach the Ingress, as its status says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedAddress {
    /// An address.
    pub ip: Option<Box<str>>,
    /// Or a host name.
    pub hostname: Option<Box<str>>,
}

impl From<v1::Ingress> for Ingress {
    fn from(ingress: v1::Ingress) -> Self {
        let v1::Ingress {
            mut metadata,
            spec,
            status,
        } = ingress;
        let mut annotations = metadata.annotations.take().unwrap_or_default();
        annotations.retain(|key, _| annotation::has_a_say(key));
        let spec = spec.unwrap_or_default();
        let published = status.and_then(|status| status.load_balancer);
        Self {
            meta: metadata.into(),
            annotations,
            class: spec.ingress_class_name.map(Into::into),
            default_backend: spec.default_backend.map(|backend| Box::new(backend.into())),
            rules: boxed(spec.rules),
            tls: boxed(spec.tls),
            addresses: boxed(published.and_then(|published| published.ingress)),
        }
    }
}

impl From<v1::IngressRule> for IngressRule {
    fn from(rule: v1::IngressRule) -> Self {
        Self {
            host: rule.host.unwrap_or_default().into(),
            paths: boxed(rule.http.map(|http| http.paths)),
        }
    }
}

impl From<v1::HTTPIngressPath> for IngressPath {
    fn from(path: v1::HTTPIngressPath) -> Self {
        Self {
            path: path.path.unwrap_or_default().into(),
            path_type: match &*path.path_type {
                "Exact" => PathType::Exact,
                "Prefix" => PathType::Prefix,
                "ImplementationSpecific" => PathType::ImplementationSpecific,
                other => PathType::Other(other.into()),
            },
            backend: path.backend.into(),
        }
    }
}

impl From<v1::IngressBackend> for IngressBackend {
    fn from(backend: v1::IngressBackend) -> Self {
        let service = backend.service.map(|service| {
            let port = service.port.unwrap_or_default();
            ServiceBackend {
                name: service.name.into(),
                port_name: port.name.map(Into::into),
                port_number: port.number,
            }
        });
        let resource = backend.resource.map(|resource| {
            Box::new(ResourceBackend {
                kind: resource.kind.into(),
                name: resource.name.into(),
            })
        });
        Self { service, resource }
    }
}

impl From<v1::IngressTLS> for IngressTls {
    fn from(tls: v1::IngressTLS) -> Self {
        Self {
            hosts: boxed(tls.hosts),
            secret_name: tls.secret_name.map(Into::into),
        }
    }
}

impl From<v1::IngressLoadBalancerIngress> for PublishedAddress {
    fn from(address: v1::IngressLoadBalancerIngress) -> Self {
        Self {
            ip: address.ip.map(Into::into),
            hostname: address.hostname.map(Into::into),
        }
    }
}
