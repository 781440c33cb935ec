//! The intermediate representation: what a set of Ingress objects means, as plain data.
//!
//! `translate` writes it; `route`, and the proxy through it, read it. It imports nothing else of
//! ours and knows neither Kubernetes types nor sockets. Two equal observations give equal
//! configurations, so `==` tells whether anything has to be published.

mod backend;
mod certificate;
mod host;
mod rule;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use backend::{Backend, BackendKey, Endpoint, ServicePort};
pub use certificate::Certificate;
pub use host::{Host, HostError, HostPattern};
pub use rule::{HostRules, ObjectRef, PathPattern, Rule, RuleOrigin, Target};

/// Everything that the proxy serves at one instant.
///
/// Values are behind `Arc` so that an unchanged part is shared between generations and a changed
/// part is found by comparing pointers first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The rules of each host. A request is served by the most specific host pattern that
    /// matches it and never falls through to a less specific one.
    pub hosts: BTreeMap<HostPattern, Arc<HostRules>>,
    /// Serves a request that no host pattern matches: the `defaultBackend` of the oldest Ingress
    /// without rules, else the controller's own default backend.
    pub default_backend: Option<Arc<Rule>>,
    /// Every backend that a rule names, with its endpoints.
    pub backends: BTreeMap<BackendKey, Arc<Backend>>,
    /// Certificates by the host pattern of the TLS section that names them.
    pub certificates: BTreeMap<HostPattern, Arc<Certificate>>,
}
