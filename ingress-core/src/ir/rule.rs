//! Rules: which path of a host goes to which backend, and which object said so.

use std::fmt;
use std::sync::Arc;

use super::BackendKey;

/// The paths of one host pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// In order of precedence, the first match wins: longer path first, `Exact` before `Prefix`
    /// at equal length. No two have the same pattern.
    pub rules: Vec<Arc<Rule>>,
    /// Serves requests to this host whose path matches no rule (`spec.defaultBackend` of an
    /// Ingress that names this host).
    pub default: Option<Arc<Rule>>,
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which request paths it is for.
    pub path: PathPattern,
    /// Where they go.
    pub target: Target,
    /// Who says so.
    pub origin: RuleOrigin,
}

/// Which request paths a rule matches, by the bytes of the path as received.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// The whole path, byte for byte.
    Exact(Arc<str>),
    /// Whole elements from the start, split by `/`; kept without a trailing slash, so that the
    /// root prefix is the empty text.
    Prefix(Arc<str>),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an endpoint of this backend; 503 while it has none.
    Backend(BackendKey),
    /// Answered with 503: the object asks for something that cannot be served, and a diagnostic
    /// says what.
    Unavailable,
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
