//! TLS to endpoints: whom they are taken for and what they are shown.

use std::fmt;
use std::sync::Arc;

/// TLS to the endpoints of a backend.
///
/// Source: ingress-nginx, annotations `proxy-ssl-secret`, `proxy-ssl-verify`,
/// `proxy-ssl-verify-depth`, `proxy-ssl-name` and `proxy-ssl-server-name`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UpstreamTls {
    /// The client certificate and key for endpoints.
    pub identity: Option<ClientIdentity>,
    /// The authorities that certificates of endpoints are verified against, in PEM; `None`: they
    /// are not verified.
    pub authorities: Option<Arc<[u8]>>,
    /// The name in certificates of endpoints, and in the handshake; that of the Service in the
    /// cluster's DNS where the Ingress has none.
    pub name: Option<Arc<str>>,
    /// Whether the handshake names a host (RFC 6066 §3).
    pub sends_name: bool,
}

/// A certificate that endpoints are shown, and its key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientIdentity {
    /// The chain, in PEM.
    pub chain: Arc<[u8]>,
    /// The key, in PEM.
    pub key: Arc<[u8]>,
}

impl fmt::Debug for UpstreamTls {
    /// Without the key, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamTls")
            .field("has_identity", &self.identity.is_some())
            .field("verifies", &self.authorities.is_some())
            .field("name", &self.name)
            .field("sends_name", &self.sends_name)
            .finish()
    }
}
