//! What a certificate says about itself, for metrics.

use ingress_core::ir::ObjectRef;
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_KEY_TYPE_EC_PUBLIC_KEY, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;

/// What is told about a certificate that is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Where it comes from.
    pub(crate) secret: ObjectRef,
    /// In seconds since 1970.
    pub(crate) expires_at: u64,
    /// In decimal, as Go prints it.
    pub(crate) serial_number: String,
    pub(crate) issuer_common_name: String,
    pub(crate) issuer_organization: String,
    /// As Go names it.
    pub(crate) public_key_algorithm: &'static str,
}

impl Facts {
    /// Reads a leaf certificate; `None` if it is none.
    pub(crate) fn read(secret: &ObjectRef, leaf: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
        let expires_at = certificate.validity().not_after.timestamp();
        let key = &certificate.public_key().algorithm.algorithm;
        let public_key_algorithm = if *key == OID_PKCS1_RSAENCRYPTION {
            "RSA"
        } else if *key == OID_KEY_TYPE_EC_PUBLIC_KEY {
            "ECDSA"
        } else if *key == OID_SIG_ED25519 {
            "Ed25519"
        } else {
            "unknown"
        };
        let issuer = certificate.issuer();
        Some(Self {
            secret: secret.clone(),
            expires_at: u64::try_from(expires_at).unwrap_or(0),
            serial_number: certificate.serial.to_string(),
            issuer_common_name: first(issuer.iter_common_name()),
            issuer_organization: first(issuer.iter_organization()),
            public_key_algorithm,
        })
    }
}

/// The first value of an attribute of a name, empty if it has none.
fn first<'a>(
    mut attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> String {
    let value = attributes.next().and_then(|value| value.as_str().ok());
    value.unwrap_or_default().to_owned()
}
