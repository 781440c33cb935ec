//! Copies of requests for a mirror, whose answers are dropped.

use std::sync::Arc;

use super::template::Template;

/// Where copies of requests are sent.
///
/// Source: ingress-nginx, annotations `mirror-target`, `mirror-host` and `mirror-request-body`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// An absolute URL.
    pub target: Template,
    /// The `Host` of copies; `None`: the target's own host.
    pub host: Option<Arc<str>>,
    /// Whether copies have the bodies of the requests.
    pub with_body: bool,
}
