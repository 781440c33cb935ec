//! Client certificates of version 1 (RFC 5280 §4.1.2.1), which webpki does not read: `openssl x509
//! -req` makes them where it is given no extensions, and nginx takes them.
//!
//! Invariant: a certificate that cannot be parsed is rejected. Such a certificate counts only where an
//! authority itself has signed it; with certificates in between it is rejected.

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::{DigitallySignedStruct, PeerIncompatible, PeerMisbehaved, SignatureScheme};
use webpki::RawPublicKeyEntity;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::time::ASN1Time;
use x509_parser::x509::X509Version;

use super::trust::Verdict;

/// A certificate of version 1.
pub(super) struct Version1<'a>(X509Certificate<'a>);

impl<'a> Version1<'a> {
    /// `None` if it is of another version, or is not a certificate.
    pub(super) fn read(certificate: &'a CertificateDer<'_>) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(certificate).ok()?;
        let is_version1 = parsed.version() == X509Version::V1
            && parsed.extensions().is_empty()
            && parsed.tbs_certificate.signature == parsed.signature_algorithm;
        (rest.is_empty() && is_version1).then_some(Self(parsed))
    }

    /// Its key, as TLS knows keys without certificates (RFC 7250).
    pub(super) fn key(&self) -> SubjectPublicKeyInfoDer<'_> {
        SubjectPublicKeyInfoDer::from(self.0.public_key().raw)
    }

    /// Judges it beside authorities and what they have revoked.
    pub(super) fn judge(
        &self,
        authorities: &[CertificateDer<'_>],
        lists: &[CertificateRevocationListDer<'_>],
        algorithms: &WebPkiSupportedAlgorithms,
        now: UnixTime,
    ) -> Verdict {
        let named = authorities.iter().filter_map(|authority| {
            let (rest, authority) = X509Certificate::from_der(authority).ok()?;
            let is_issuer = authority.subject().as_raw() == self.0.issuer().as_raw();
            (rest.is_empty() && is_issuer).then_some(authority)
        });
        let mut named = named.peekable();
        if named.peek().is_none() {
            let is_own = self.0.subject().as_raw() == self.0.issuer().as_raw();
            return Verdict::Unknown(if is_own {
                "self-signed certificate"
            } else {
                "unable to get local issuer certificate"
            });
        }
        let issuer = named.find(|authority| {
            let signed = self.0.tbs_certificate.as_ref();
            is_signed(authority, signed, &self.0.signature_value.data, algorithms)
        });
        let Some(issuer) = issuer else {
            return Verdict::Unknown("unable to verify the first certificate");
        };
        // Name constraints apply to alternative names, which certificates of version 1 lack.
        let is_free = issuer.name_constraints().is_ok_and(|found| found.is_none());
        let now = i64::try_from(now.as_secs()).ok();
        let now = now.and_then(|now| ASN1Time::from_timestamp(now).ok());
        let Some(now) = now.filter(|_| is_free) else {
            return Verdict::Bad("certificate rejected");
        };
        if now < self.0.validity().not_before {
            return Verdict::Bad("certificate is not yet valid");
        }
        if now > self.0.validity().not_after {
            return Verdict::Bad("certificate has expired");
        }
        if lists.is_empty() {
            return Verdict::Good;
        }
        self.judge_revocation(&issuer, lists, algorithms, now)
    }

    fn judge_revocation(
        &self,
        issuer: &X509Certificate<'_>,
        lists: &[CertificateRevocationListDer<'_>],
        algorithms: &WebPkiSupportedAlgorithms,
        now: ASN1Time,
    ) -> Verdict {
        let mut verdict = Verdict::Bad("unable to get certificate CRL");
        for list in lists {
            let Ok((_, list)) = CertificateRevocationList::from_der(list) else {
                return Verdict::Bad("certificate rejected");
            };
            if list.issuer().as_raw() != issuer.subject().as_raw() {
                continue;
            }
            let signed = list.tbs_cert_list.as_ref();
            if !is_signed(issuer, signed, &list.signature_value.data, algorithms) {
                return Verdict::Bad("CRL signature failure");
            }
            if list.extensions().iter().any(|extension| extension.critical) {
                return Verdict::Bad("certificate rejected");
            }
            if list.next_update().is_none_or(|next| next < now) {
                return Verdict::Bad("CRL has expired");
            }
            let mut revoked = list.iter_revoked_certificates();
            if revoked.any(|one| one.raw_serial() == self.0.raw_serial()) {
                return Verdict::Bad("certificate revoked");
            }
            verdict = Verdict::Good;
        }
        verdict
    }
}

/// Whether the key of an authority has signed something, by any algorithm that is good enough.
fn is_signed(
    authority: &X509Certificate<'_>,
    signed: &[u8],
    signature: &[u8],
    algorithms: &WebPkiSupportedAlgorithms,
) -> bool {
    let key = SubjectPublicKeyInfoDer::from(authority.public_key().raw);
    let Ok(key) = RawPublicKeyEntity::try_from(&key) else {
        return false;
    };
    let mut all = algorithms.all.iter();
    all.any(|algorithm| key.verify_signature(*algorithm, signed, signature).is_ok())
}

/// Whether the key has signed the handshake of TLS 1.2: rustls itself does that for TLS 1.3 alone.
pub(super) fn verify_tls12(
    message: &[u8],
    key: &SubjectPublicKeyInfoDer<'_>,
    signed: &DigitallySignedStruct,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), rustls::Error> {
    let is_same = |(scheme, _): &&(SignatureScheme, _)| *scheme == signed.scheme;
    let possible = algorithms.mapping.iter().find(is_same);
    let Some((_, possible)) = possible else {
        return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
    };
    let key = RawPublicKeyEntity::try_from(key)
        .map_err(|_| PeerIncompatible::NoCertificateRequestSignatureSchemesInCommon)?;
    let is_good = possible.iter().any(|algorithm| {
        let verified = key.verify_signature(*algorithm, message, signed.signature());
        verified.is_ok()
    });
    if is_good {
        Ok(())
    } else {
        Err(rustls::CertificateError::BadSignature.into())
    }
}
