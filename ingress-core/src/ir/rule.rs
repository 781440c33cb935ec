//! Rules: which path of a host goes to which backend, and which object said so.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::{BackendKey, PathPattern, RouteMatch, RoutePolicy, Target};

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

impl Rule {
    /// Whether the proxy answers requests of the rule itself: its path belongs to logins.
    pub fn is_own_path(&self) -> bool {
        let path = match &self.matches.path {
            PathPattern::Exact(path) => path,
            PathPattern::Prefix(_) | PathPattern::Regex(_) => return false,
        };
        let oidc = self.policy.oidc();
        oidc.is_some_and(|oidc| oidc.own_path(path.as_bytes()).is_some())
    }

    /// The Path of session cookies that name no other: the path as the object spells it, in the form
    /// in which clients send it. It is `/` for a default backend, for a path that cannot be an
    /// attribute (RFC 6265 §4.1.1), and for a regular expression that is more than a literal path.
    ///
    /// Source: ingress-nginx, `sticky.lua`: `$location_path`. A client that gets an expression as
    /// Path never sends the cookie back.
    pub fn cookie_path(&self) -> Arc<str> {
        let path = &self.origin.path;
        let is_regex = matches!(self.matches.path, PathPattern::Regex(_));
        let is_pattern = is_regex && path.contains(REGEX_SIGNS);
        if is_pattern || !path.starts_with('/') || path.contains(';') {
            return "/".into();
        }
        if path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Arc::clone(path);
        }
        let mut encoded = String::with_capacity(path.len() * 2);
        for byte in path.bytes() {
            if byte.is_ascii_graphic() {
                encoded.push(char::from(byte));
            } else {
                // Writing to a text does not fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded.into()
    }
}

/// Characters that make an expression more than a literal path. A dot is not among them: it stands
/// for itself in nearly every path that has one.
const REGEX_SIGNS: [char; 13] = [
    '\\', '^', '$', '*', '+', '?', '(', ')', '[', ']', '{', '}', '|',
];

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
