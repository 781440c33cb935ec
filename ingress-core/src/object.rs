//! Kubernetes objects, reduced to what somebody here reads.
//!
//! The API's own types have a place for every field that an object may have: at 10,000 objects
//! those places are most of a daemon's memory. The kinds of which there are many are therefore
//! kept in types of our own, which are made from the API's when an object is read, and which say
//! nothing more than the object does: what it means is `translate`'s to find out. Kinds of which
//! there are few stay as they are.

mod endpoint_slice;
mod ingress;
mod service;

use std::sync::Arc;

pub use endpoint_slice::{Address, Endpoint, EndpointSlice, Readiness, SlicePort};
pub use ingress::{
    Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PathType, PublishedAddress,
    ResourceBackend, ServiceBackend,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::{Deserialize, Serialize};
pub use service::{Service, ServicePort};

use crate::ir::ObjectRef;

/// What names an object, and which version of it this is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Meta {
    /// `default` for an object that says none.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Empty for an object that no API server has seen.
    pub uid: Box<str>,
    /// Empty for an object that no API server has seen.
    pub resource_version: Box<str>,
    /// Counts the changes of `spec`, for kinds that count them.
    pub generation: Option<i64>,
    /// When it was created.
    pub created: Option<Time>,
}

impl Meta {
    /// A reference to the object, which is of this kind.
    pub fn reference(&self, kind: &'static str) -> ObjectRef {
        ObjectRef {
            kind,
            namespace: Arc::clone(&self.namespace),
            name: Arc::clone(&self.name),
        }
    }
}

impl From<ObjectMeta> for Meta {
    fn from(meta: ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.as_deref().unwrap_or("default").into(),
            name: meta.name.unwrap_or_default().into(),
            uid: meta.uid.unwrap_or_default().into(),
            resource_version: meta.resource_version.unwrap_or_default().into(),
            generation: meta.generation,
            created: meta.creation_timestamp,
        }
    }
}

/// A port of a pod, by number or by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortRef {
    /// Its number, as found: it may be no port number.
    Number(i32),
    /// Its name.
    Name(Box<str>),
}

impl From<IntOrString> for PortRef {
    fn from(port: IntOrString) -> Self {
        match port {
            IntOrString::Int(number) => Self::Number(number),
            IntOrString::String(name) => Self::Name(name.into()),
        }
    }
}

fn boxed<T, U: From<T>>(items: Option<Vec<T>>) -> Box<[U]> {
    items.into_iter().flatten().map(U::from).collect()
}
