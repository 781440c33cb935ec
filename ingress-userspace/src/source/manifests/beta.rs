//! Ingresses of `extensions/v1beta1` and `networking.k8s.io/v1beta1`, read as v1.
//!
//! The API server stopped serving them in Kubernetes 1.22; old files still hold them. The
//! conversion is the API server's: `backend` → `defaultBackend`, `serviceName` and `servicePort` →
//! `service`, a missing `pathType` → `ImplementationSpecific`.

use k8s_openapi::api::core::v1::TypedLocalObjectReference;
use k8s_openapi::api::networking::v1;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;

/// An Ingress of a beta version.
#[derive(Deserialize)]
pub(super) struct Ingress {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<IngressSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressSpec {
    ingress_class_name: Option<String>,
    backend: Option<IngressBackend>,
    tls: Option<Vec<v1::IngressTLS>>,
    rules: Option<Vec<IngressRule>>,
}

#[derive(Deserialize)]
struct IngressRule {
    host: Option<String>,
    http: Option<HttpIngressRuleValue>,
}

#[derive(Deserialize)]
struct HttpIngressRuleValue {
    paths: Option<Vec<HttpIngressPath>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpIngressPath {
    path: Option<String>,
    path_type: Option<String>,
    backend: Option<IngressBackend>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IngressBackend {
    service_name: Option<String>,
    service_port: Option<IntOrString>,
    resource: Option<TypedLocalObjectReference>,
}

/// An IngressClass of `networking.k8s.io/v1beta1`.
#[derive(Deserialize)]
pub(super) struct IngressClass {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<v1::IngressClassSpec>,
}

impl From<IngressClass> for v1::IngressClass {
    fn from(IngressClass { metadata, spec }: IngressClass) -> Self {
        Self { metadata, spec }
    }
}

impl From<Ingress> for v1::Ingress {
    fn from(Ingress { metadata, spec }: Ingress) -> Self {
        Self {
            metadata,
            spec: spec.map(Into::into),
            status: None,
        }
    }
}

impl From<IngressSpec> for v1::IngressSpec {
    fn from(spec: IngressSpec) -> Self {
        let IngressSpec {
            ingress_class_name,
            backend,
            tls,
            rules,
        } = spec;
        Self {
            default_backend: backend.map(Into::into),
            ingress_class_name,
            rules: rules.map(|rules| rules.into_iter().map(Into::into).collect()),
            tls,
        }
    }
}

impl From<IngressRule> for v1::IngressRule {
    fn from(IngressRule { host, http }: IngressRule) -> Self {
        let http = http.map(|http| v1::HTTPIngressRuleValue {
            paths: http
                .paths
                .unwrap_or_default()
                .into_iter()
                .map(Into::into)
                .collect(),
        });
        Self { host, http }
    }
}

impl From<HttpIngressPath> for v1::HTTPIngressPath {
    fn from(
        HttpIngressPath {
            path,
            path_type,
            backend,
        }: HttpIngressPath,
    ) -> Self {
        Self {
            backend: backend.map(Into::into).unwrap_or_default(),
            path,
            path_type: path_type.unwrap_or_else(|| "ImplementationSpecific".to_owned()),
        }
    }
}

impl From<IngressBackend> for v1::IngressBackend {
    fn from(backend: IngressBackend) -> Self {
        let IngressBackend {
            service_name,
            service_port,
            resource,
        } = backend;
        let service =
            service_name
                .filter(|name| !name.is_empty())
                .map(|name| v1::IngressServiceBackend {
                    name,
                    port: service_port.map(port),
                });
        Self { resource, service }
    }
}

/// Digits in quotes are a number too: v1 has no port names without a letter.
fn port(port: IntOrString) -> v1::ServiceBackendPort {
    let (name, number) = match port {
        IntOrString::Int(number) => (None, Some(number)),
        IntOrString::String(text) => match text.parse() {
            Ok(number) => (None, Some(number)),
            Err(_) => (Some(text), None),
        },
    };
    v1::ServiceBackendPort { name, number }
}
