//! Client certificates: what a host wants to see of its clients (mutual TLS).

use std::fmt;
use std::sync::Arc;

use super::ObjectRef;

/// What the clients of one host have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Who gets in.
    pub mode: VerifyMode,
    /// How many intermediate certificates may stand between a client's and one of the authorities:
    /// `ssl_verify_depth` of nginx.
    pub depth: u8,
    /// Who vouches for clients. `None` if the Secret can't be had: the host refuses everybody.
    pub authorities: Option<Arc<Authorities>>,
    /// Whether endpoints get the client's certificate itself.
    pub passes_certificate: bool,
    /// Where clients are sent that don't get in: an absolute URL.
    pub error_page: Option<Arc<str>>,
}

/// Who gets in: `auth-tls-verify-client` of ingress-nginx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyMode {
    /// `on`: clients with a certificate that an authority vouches for.
    #[default]
    Required,
    /// `optional`: those without one too.
    Optional,
    /// `optional_no_ca`: those with one that nobody vouches for too; the endpoint is told.
    OptionalNoCa,
}

/// Certificates of authorities and what they have revoked, in PEM, not yet parsed: the TLS library
/// is the one judge of their contents.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The Secret they came from.
    pub secret: ObjectRef,
    /// `ca.crt`.
    pub ca_pem: Vec<u8>,
    /// `ca.crl`, if there is one.
    pub crl_pem: Option<Vec<u8>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}
