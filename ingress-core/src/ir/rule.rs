//! Rules: which path of a host goes to which backend, and which object said so.

use std::fmt;
use std::sync::Arc;

use super::{BackendKey, RouteMatch, RoutePolicy, Target};

/// The paths of one host pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// In order of precedence, the first match wins. No two match the same requests.
    pub rules: Vec<Arc<Rule>>,
    /// Serves requests to this host whose path matches no rule: `spec.defaultBackend` of the
    /// oldest Ingress that names this host, else the controller's own default backend.
    pub default: Option<Arc<Rule>>,
    /// Whether a TLS section of an Ingress names this host.
    pub has_tls: bool,
    /// The backend that TLS connections are passed through to instead of being ended here, if the
    /// Ingress that first named the host asks for that.
    pub passthrough: Option<Arc<BackendKey>>,
}

impl HostRules {
    /// Makes the rules of an Ingress let nobody in.
    pub(crate) fn close(&mut self, ingress: &ObjectRef) {
        for rule in self.rules.iter_mut().chain(&mut self.default) {
            if rule.origin.ingress == *ingress {
                *rule = Arc::new(Rule {
                    target: Target::Respond(403),
                    ..(**rule).clone()
                });
            }
        }
    }
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which requests it is for.
    pub matches: RouteMatch,
    /// Where they go.
    pub target: Target,
    /// What else its Ingress says about them.
    pub policy: Arc<RoutePolicy>,
    /// Who says so.
    pub origin: RuleOrigin,
}

/// The object that a rule came from, for logs, metrics and `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleOrigin {
    /// The Ingress.
    pub ingress: ObjectRef,
    /// The path as the object spells it; empty for a default backend.
    pub path: Arc<str>,
}

/// Names one Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `Ingress`, `Service`, `Secret`, …
    pub kind: &'static str,
    /// Empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}
