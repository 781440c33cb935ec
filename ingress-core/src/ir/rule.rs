//! Rules: which path of a host goes to which backend, and which object said so.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use super::BackendKey;

/// The paths of one host pattern.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostRules {
    /// In order of precedence, the first match wins: longer path first, `Exact` before `Prefix`
    /// at equal length. No two have the same pattern.
    pub rules: Vec<Arc<Rule>>,
    /// Serves requests to this host whose path matches no rule: `spec.defaultBackend` of the
    /// oldest Ingress that names this host, else the controller's own default backend.
    pub default: Option<Arc<Rule>>,
}

/// One path of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which request paths it is for.
    pub path: PathPattern,
    /// Where they go.
    pub target: Target,
    /// Bytes that the body of a request may have; 0: any number. `None`: as the operator says.
    pub body_bytes_max: Option<u64>,
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

impl PathPattern {
    /// A prefix without its trailing slashes, which mean nothing: `/foo/` and `/foo` are one
    /// pattern.
    pub fn prefix(text: &str) -> Self {
        Self::Prefix(text.trim_end_matches('/').into())
    }

    /// What [`prefix`](Self::prefix) gives; shares the text where that has no trailing slash.
    pub fn prefix_sharing(text: &Arc<str>) -> Self {
        if text.ends_with('/') {
            Self::prefix(text)
        } else {
            Self::Prefix(Arc::clone(text))
        }
    }

    /// Whether a request path is matched.
    ///
    /// Source: the Kubernetes Ingress documentation, "Path types".
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(text) => **text == *path,
            Self::Prefix(text) => path
                .strip_prefix(&**text)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/')),
        }
    }

    /// The pattern's text: what a matching path starts with.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
        }
    }

    fn is_exact(&self) -> bool {
        matches!(self, Self::Exact(_))
    }
}

impl Ord for PathPattern {
    /// Precedence, the smaller is tried first: the longer, then `Exact`; the text makes it total.
    fn cmp(&self, other: &Self) -> Ordering {
        let (text, other_text) = (self.as_str(), other.as_str());
        (other_text.len().cmp(&text.len()))
            .then_with(|| other.is_exact().cmp(&self.is_exact()))
            .then_with(|| text.cmp(other_text))
    }
}

impl PartialOrd for PathPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "= {text}"),
            Self::Prefix(text) if text.is_empty() => f.write_str("/"),
            Self::Prefix(text) => f.write_str(text),
        }
    }
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an endpoint of this backend; 503 while it has none.
    Backend(Arc<BackendKey>),
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
