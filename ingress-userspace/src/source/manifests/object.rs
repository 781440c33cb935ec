//! The objects that a manifest may hold, by `apiVersion` and `kind`.

use std::collections::BTreeMap;
use std::sync::Arc;

use ingress_core::ir::ObjectRef;
use ingress_core::list::List;
use ingress_core::object;
use ingress_core::snapshot::Snapshot;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{self, ConfigMap, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::value::{Error as ValueError, StrDeserializer};
use serde::de::{DeserializeSeed, Error, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::beta;
use super::endpoints::Endpoints;

/// An object and the line where it starts.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub(super) line: u64,
    pub(super) object: Object,
}

/// An object that has a say in the configuration.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Object {
    Ingress(Arc<object::Ingress>),
    IngressClass(Arc<IngressClass>),
    Service(Arc<object::Service>),
    EndpointSlice(Arc<object::EndpointSlice>),
    Endpoints(Endpoints),
    Secret(Arc<Secret>),
    ConfigMap(Arc<ConfigMap>),
}

impl Object {
    pub(super) fn reference(&self) -> ObjectRef {
        let (kind, meta) = match self {
            Self::Ingress(object) => return object.meta.reference("Ingress"),
            Self::Service(object) => return object.meta.reference("Service"),
            Self::EndpointSlice(object) => return object.meta.reference("EndpointSlice"),
            Self::Endpoints(object) => return object.meta.reference("Endpoints"),
            Self::IngressClass(object) => ("IngressClass", &object.metadata),
            Self::Secret(object) => ("Secret", &object.metadata),
            Self::ConfigMap(object) => ("ConfigMap", &object.metadata),
        };
        let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
        ObjectRef {
            kind,
            namespace: text(&meta.namespace),
            name: text(&meta.name),
        }
    }

    pub(super) fn add_to(&self, snapshot: &mut Snapshot) {
        match self {
            Self::Ingress(object) => snapshot.ingresses.push(Arc::clone(object)),
            Self::IngressClass(object) => snapshot.ingress_classes.push(Arc::clone(object)),
            Self::Service(object) => snapshot.services.push(Arc::clone(object)),
            Self::EndpointSlice(object) => snapshot.endpoint_slices.push(Arc::clone(object)),
            Self::Endpoints(object) => {
                for slice in &*object.slices {
                    snapshot.endpoint_slices.push(Arc::clone(slice));
                }
            }
            Self::Secret(object) => snapshot.secrets.push(Arc::clone(object)),
            Self::ConfigMap(object) => snapshot.config_maps.push(Arc::clone(object)),
        }
    }
}

impl Object {
    /// Takes the place of an object of the same kind in a snapshot; tells whether that was there.
    pub(super) fn replace(&self, before: &Self, snapshot: &mut Snapshot) -> bool {
        match (before, self) {
            (Self::Ingress(a), Self::Ingress(b)) => put(&mut snapshot.ingresses, a, b),
            (Self::IngressClass(a), Self::IngressClass(b)) => {
                put(&mut snapshot.ingress_classes, a, b)
            }
            (Self::Service(a), Self::Service(b)) => put(&mut snapshot.services, a, b),
            (Self::EndpointSlice(a), Self::EndpointSlice(b)) => {
                put(&mut snapshot.endpoint_slices, a, b)
            }
            (Self::Secret(a), Self::Secret(b)) => put(&mut snapshot.secrets, a, b),
            (Self::ConfigMap(a), Self::ConfigMap(b)) => put(&mut snapshot.config_maps, a, b),
            _ => false,
        }
    }
}

fn put<T>(objects: &mut List<T>, before: &Arc<T>, after: &Arc<T>) -> bool {
    Arc::ptr_eq(before, after) || objects.replace(before, after)
}

/// The same snapshot; kinds of which nothing has changed are those of the last one.
pub(super) fn sharing(snapshot: Snapshot, last: &Snapshot) -> Snapshot {
    Snapshot {
        ingresses: last.ingresses.following(&snapshot.ingresses),
        ingress_classes: last.ingress_classes.following(&snapshot.ingress_classes),
        services: last.services.following(&snapshot.services),
        endpoint_slices: last.endpoint_slices.following(&snapshot.endpoint_slices),
        secrets: last.secrets.following(&snapshot.secrets),
        config_maps: last.config_maps.following(&snapshot.config_maps),
        ..snapshot
    }
}

/// Which reader an object needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ingress,
    /// `extensions/v1beta1` and `networking.k8s.io/v1beta1`.
    BetaIngress,
    IngressClass,
    /// Of `networking.k8s.io/v1beta1`, which has the fields of v1.
    BetaIngressClass,
    Service,
    EndpointSlice,
    /// Which the API server makes slices of.
    Endpoints,
    Secret,
    ConfigMap,
}

impl Kind {
    /// `None` for a kind that has no say.
    pub(super) fn of(api_version: &str, kind: &str) -> Option<Self> {
        match (api_version, kind) {
            ("networking.k8s.io/v1", "Ingress") => Some(Self::Ingress),
            ("networking.k8s.io/v1beta1" | "extensions/v1beta1", "Ingress") => {
                Some(Self::BetaIngress)
            }
            ("networking.k8s.io/v1", "IngressClass") => Some(Self::IngressClass),
            ("networking.k8s.io/v1beta1", "IngressClass") => Some(Self::BetaIngressClass),
            ("v1", "Service") => Some(Self::Service),
            ("discovery.k8s.io/v1", "EndpointSlice") => Some(Self::EndpointSlice),
            ("v1", "Endpoints") => Some(Self::Endpoints),
            ("v1", "Secret") => Some(Self::Secret),
            ("v1", "ConfigMap") => Some(Self::ConfigMap),
            _ => None,
        }
    }
}

/// Reads an object of a known kind, or reads over one of another kind.
pub(super) struct ObjectSeed(pub(super) Option<Kind>);

impl<'de> DeserializeSeed<'de> for ObjectSeed {
    type Value = Option<Object>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let Some(kind) = self.0 else {
            IgnoredAny::deserialize(deserializer)?;
            return Ok(None);
        };
        Ok(Some(match kind {
            Kind::Ingress => {
                let object = Ingress::deserialize(deserializer)?;
                Object::Ingress(Arc::new(object.into()))
            }
            Kind::BetaIngress => {
                let object = Ingress::from(beta::Ingress::deserialize(deserializer)?);
                Object::Ingress(Arc::new(object.into()))
            }
            Kind::IngressClass => {
                let object = IngressClass::deserialize(deserializer)?;
                Object::IngressClass(Arc::new(object))
            }
            Kind::BetaIngressClass => {
                let object = IngressClass::from(beta::IngressClass::deserialize(deserializer)?);
                Object::IngressClass(Arc::new(object))
            }
            Kind::Service => {
                let object = Service::deserialize(deserializer)?;
                Object::Service(Arc::new(object.into()))
            }
            Kind::EndpointSlice => {
                let object = EndpointSlice::deserialize(deserializer)?;
                Object::EndpointSlice(Arc::new(object.into()))
            }
            Kind::Endpoints => {
                let object = v1::Endpoints::deserialize(deserializer)?;
                Object::Endpoints(object.into())
            }
            Kind::Secret => {
                let mut object = Secret::from(WrittenSecret::deserialize(deserializer)?);
                complete(&mut object.metadata);
                Object::Secret(Arc::new(object))
            }
            Kind::ConfigMap => {
                let mut object = ConfigMap::deserialize(deserializer)?;
                complete(&mut object.metadata);
                Object::ConfigMap(Arc::new(object))
            }
        }))
    }
}

/// A missing namespace is `default`, as `kubectl` has it.
fn complete(meta: &mut ObjectMeta) {
    meta.namespace.get_or_insert_with(|| "default".to_owned());
}

/// A Secret as people write it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenSecret {
    #[serde(default)]
    metadata: ObjectMeta,
    r#type: Option<String>,
    data: Option<BTreeMap<String, Base64>>,
    string_data: Option<BTreeMap<String, String>>,
}

impl From<WrittenSecret> for Secret {
    /// `stringData` overrides `data`, as the API server has it.
    fn from(secret: WrittenSecret) -> Self {
        let WrittenSecret {
            metadata,
            r#type,
            data,
            string_data,
        } = secret;
        let data = data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0));
        let string_data = string_data.unwrap_or_default().into_iter();
        let string_data = string_data.map(|(key, text)| (key, ByteString(text.into_bytes())));
        Self {
            metadata,
            type_: r#type,
            data: Some(data.chain(string_data).collect()),
            ..Self::default()
        }
    }
}

/// Base64 that may be broken into lines, which Go's decoder accepts and block scalars have.
struct Base64(ByteString);

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        text.retain(|c| !matches!(c, '\n' | '\r'));
        ByteString::deserialize(StrDeserializer::<ValueError>::new(&text))
            .map(Self)
            .map_err(|error| D::Error::custom(format_args!("value is not base64: {error}")))
    }
}
