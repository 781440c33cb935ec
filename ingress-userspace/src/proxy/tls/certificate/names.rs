//! Names and keys of certificates that the TLS library does not read: those of X.509 version 1, as
//! `openssl x509 -req` makes them without extensions, and those without alternative names.
//!
//! Clients decide whether they take such a certificate; nginx and ingress-nginx serve it.

use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

/// Whether a certificate is for this public key. One that cannot be read is for none.
pub(super) fn has_public_key(leaf: &CertificateDer<'_>, key: &SubjectPublicKeyInfoDer<'_>) -> bool {
    X509Certificate::from_der(leaf)
        .is_ok_and(|(_, certificate)| certificate.public_key().raw == key.as_ref())
}

/// The common names of a certificate without subject alternative names; `None` for one that has
/// some, or that cannot be read.
pub(super) fn common_names_alone(leaf: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(leaf).ok()?;
    if certificate.subject_alternative_name().ok()?.is_some() {
        return None;
    }
    let names = certificate.subject().iter_common_name();
    let names = names.filter_map(|name| name.as_str().ok());
    Some(names.map(str::to_ascii_lowercase).collect())
}

/// Whether a name of a certificate covers a host; a wildcard stands for one label.
pub(super) fn covers(name: &str, host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    match name.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => name == host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcard_covers_one_label() {
        assert!(covers("a.test", "A.test") && covers("*.a.test", "b.a.test"));
        assert!(!covers("*.a.test", "a.test") && !covers("*.a.test", "c.b.a.test"));
        assert!(!covers("a.test", "b.test"));
    }
}
