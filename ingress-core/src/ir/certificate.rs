//! Certificates as Secrets of type `kubernetes.io/tls` carry them.

use std::fmt;
use std::sync::Arc;

use super::ObjectRef;

/// A certificate chain and its private key in PEM, not yet parsed: the TLS library is the one
/// judge of their contents, and it lives in the userspace crate.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret they came from.
    pub secret: ObjectRef,
    /// `tls.crt`: leaf first.
    pub chain_pem: Vec<u8>,
    /// `tls.key`: PKCS#8, PKCS#1 or SEC1.
    pub key_pem: Vec<u8>,
    /// Another one for the same hosts, by another algorithm: clients get the one that they can
    /// verify.
    pub alternative: Option<Arc<Certificate>>,
}

impl Certificate {
    /// The certificate of a Secret that is missing or has no such contents. It claims its hosts
    /// all the same: what they were served with last stays.
    pub fn absent(secret: ObjectRef) -> Self {
        Self {
            secret,
            chain_pem: Vec::new(),
            key_pem: Vec::new(),
            alternative: None,
        }
    }

    /// Whether there is nothing to serve.
    pub fn is_absent(&self) -> bool {
        self.chain_pem.is_empty()
    }
}

impl fmt::Debug for Certificate {
    /// Never shows the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}
