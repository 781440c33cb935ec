//! What operators read of a running daemon: the types that the admin socket serves as JSON and that the
//! command line shows. Pure functions of the published configuration.
//!
//! `docs/schema/v1` has a JSON Schema of each, generated from these types. Between releases fields are
//! only added.

mod certificates;
mod dashboard;
mod endpoints;
mod node;
mod routes;
mod tail;
mod traffic;

pub use certificates::{Certificate, CertificateOrder, certificates};
pub use dashboard::{Generation, LastUse, PacketReason, Problem, Sample};
pub use endpoints::{Endpoint, EndpointPath, EndpointState, endpoints};
use ingress_core::ir::ObjectRef;
pub use node::{ConfigCounts, Node, NodeLine, NodeLook, NodeRequest, TrafficChange};
pub use routes::{BackendShare, PathType, Route, RouteTarget, routes};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
pub use tail::{TailEvent, TailLine};
pub use traffic::Traffic;

/// The name of a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// `Ingress`, `Secret`, …
    pub kind: String,
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl From<&ObjectRef> for Object {
    fn from(object: &ObjectRef) -> Self {
        Self {
            kind: object.kind.to_owned(),
            namespace: object.namespace.to_string(),
            name: object.name.to_string(),
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}
