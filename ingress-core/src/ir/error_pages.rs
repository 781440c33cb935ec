//! Answers of a default backend in place of errors.

use std::sync::Arc;

use super::BackendKey;

/// Which responses a default backend gives in place of an endpoint.
///
/// Source: ingress-nginx, annotations `custom-http-errors`, `default-backend` and
/// `disable-proxy-intercept-errors`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ErrorPages {
    /// Statuses of endpoints' responses that are replaced.
    pub statuses: Box<[u16]>,
    /// Whether a backend without a ready endpoint is replaced, too.
    pub replaces_unavailable: bool,
    /// The backend that serves the error pages; `None`: the default backend of the operator, if there
    /// is one.
    pub backend: Option<Arc<BackendKey>>,
}
