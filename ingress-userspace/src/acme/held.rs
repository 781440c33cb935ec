//! The certificate in a Secret that Sluice made: names, validity and its identifier at the issuer.

use ingress_core::acme::{Held, ISSUER_MARK, RENEWAL_MARK, mark, read_time, renewal_after};
use instant_acme::CertificateIdentifier;
use k8s_openapi::api::core::v1::Secret;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

/// A certificate that an issuer gave us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) held: Held,
    /// When it ends, in seconds since 1970.
    pub(super) not_after: i64,
    /// Its identifier at the issuer (RFC 9773 §4.1).
    pub(super) identifier: Option<CertificateIdentifier<'static>>,
}

impl Certificate {
    /// Whether this is that certificate, whenever each is renewed.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let facts = |one: &Self| (one.not_after, one.identifier.clone());
        facts(self) == facts(other)
    }
}

/// The certificate in a Secret, if the Secret is ours and its certificate can be read.
pub(super) fn read(secret: &Secret) -> Option<Certificate> {
    let chain = secret.data.as_ref()?.get("tls.crt")?;
    let mut certificate = read_chain(&chain.0, mark(secret, ISSUER_MARK)?)?;
    if let Some(at) = mark(secret, RENEWAL_MARK).and_then(read_time) {
        certificate.held.renews_at = at;
    }
    Some(certificate)
}

/// The leaf of a chain in PEM.
pub(super) fn read_chain(pem: &[u8], issuer: &str) -> Option<Certificate> {
    let leaf = CertificateDer::pem_slice_iter(pem).next()?.ok()?;
    let (_, parsed) = X509Certificate::from_der(&leaf).ok()?;
    let alternatives = parsed.subject_alternative_name().ok()??;
    let names = alternatives.value.general_names.iter();
    let names = names.filter_map(|name| {
        let GeneralName::DNSName(name) = name else {
            return None;
        };
        Some(name.to_ascii_lowercase())
    });
    let validity = parsed.validity();
    let not_after = validity.not_after.timestamp();
    Some(Certificate {
        held: Held {
            issuer: issuer.to_owned(),
            names: names.collect(),
            renews_at: renewal_after(validity.not_before.timestamp(), not_after),
        },
        not_after,
        identifier: CertificateIdentifier::try_from(&leaf)
            .ok()
            .map(CertificateIdentifier::into_owned),
    })
}
