//! Whether an authority vouches for a client: paths and revocation, by rustls' own library.

use std::sync::{Arc, OnceLock};

use super::version1::Version1;
use ingress_core::ir::Authorities;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::{RootCertStore, ServerConfig, crypto::aws_lc_rs};
use thiserror::Error;
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationOptionsBuilder, VerifiedPath,
};

/// Authorities and what they have revoked.
#[derive(Debug)]
pub(crate) struct Trust {
    roots: RootCertStore,
    /// As with nginx, where there are some, every certificate needs one of its issuer.
    revoked: Vec<CertRevocationList<'static>>,
    /// Both again, for certificates that webpki does not read.
    authorities: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
    /// How clients of these authorities are asked.
    pub(crate) config: OnceLock<Option<Arc<ServerConfig>>>,
}

/// What comes of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// There is none.
    None,
    /// An authority vouches for it.
    Good,
    /// No authority that is known does; in OpenSSL's words.
    Unknown(&'static str),
    /// It is not to be taken; in OpenSSL's words.
    Bad(&'static str),
}

/// Why a Secret has no usable authorities.
#[derive(Debug, Error)]
pub(crate) enum TrustError {
    #[error("`ca.crt` cannot be read as PEM")]
    Certificates(#[source] pem::Error),
    #[error("`ca.crt` has no certificate")]
    NoCertificate,
    #[error("`ca.crt` has a certificate that cannot be read")]
    Anchor(#[source] rustls::Error),
    #[error("`ca.crl` cannot be read as PEM")]
    Lists(#[source] pem::Error),
    #[error("`ca.crl` has no revocation list")]
    NoList,
    #[error("`ca.crl` has a revocation list that cannot be read")]
    List(#[source] webpki::Error),
}

impl Trust {
    pub(crate) fn read(authorities: &Authorities) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        let (mut anchors, mut revocations) = (Vec::new(), Vec::new());
        for certificate in CertificateDer::pem_slice_iter(&authorities.ca_pem) {
            let certificate = certificate.map_err(TrustError::Certificates)?;
            anchors.push(certificate.clone());
            roots.add(certificate).map_err(TrustError::Anchor)?;
        }
        if roots.is_empty() {
            return Err(TrustError::NoCertificate);
        }
        let mut revoked = Vec::new();
        if let Some(lists) = &authorities.crl_pem {
            for list in CertificateRevocationListDer::pem_slice_iter(lists) {
                let list = list.map_err(TrustError::Lists)?;
                revocations.push(list.clone());
                let list = OwnedCertRevocationList::from_der(&list).map_err(TrustError::List)?;
                revoked.push(list.into());
            }
            if revoked.is_empty() {
                return Err(TrustError::NoList);
            }
        }
        Ok(Self {
            roots,
            revoked,
            authorities: anchors,
            lists: revocations,
            config: OnceLock::new(),
        })
    }

    /// The names of the authorities, which clients choose their certificates by.
    pub(crate) fn roots(&self) -> &RootCertStore {
        &self.roots
    }

    /// Judges a chain, leaf first, with at most `depth` certificates between leaf and authority.
    pub(crate) fn judge(&self, chain: &[CertificateDer<'_>], depth: u8) -> Verdict {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Verdict::None;
        };
        if let Some(first) = Version1::read(leaf) {
            let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
            let now = UnixTime::now();
            return first.judge(&self.authorities, &self.lists, &algorithms, now);
        }
        match self.verify(leaf, intermediates, depth) {
            Ok(()) => Verdict::Good,
            Err(error) => verdict(&error),
        }
    }

    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        depth: u8,
    ) -> Result<(), webpki::Error> {
        let leaf = EndEntityCert::try_from(leaf)?;
        let revoked: Vec<_> = self.revoked.iter().collect();
        // An error means that there are none.
        let revocation = RevocationOptionsBuilder::new(&revoked).ok();
        let revocation = revocation.map(|options| {
            let options = options.with_expiration_policy(ExpirationPolicy::Enforce);
            options.build()
        });
        let is_shallow = |path: &VerifiedPath<'_>| {
            if path.intermediate_certificates().count() <= usize::from(depth) {
                Ok(())
            } else {
                Err(webpki::Error::MaximumPathDepthExceeded)
            }
        };
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        leaf.verify_for_usage(
            algorithms.all,
            &self.roots.roots,
            intermediates,
            UnixTime::now(),
            KeyUsage::client_auth(),
            revocation,
            Some(&is_shallow),
        )?;
        Ok(())
    }
}

/// `X509_verify_cert_error_string` of OpenSSL, which endpoints know from nginx; `Unknown` where
/// nginx takes a certificate for `optional_no_ca`.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library may have more to say some day, and nothing of it lets anybody in"
)]
fn verdict(error: &webpki::Error) -> Verdict {
    use webpki::Error;
    match error {
        Error::UnknownIssuer => Verdict::Unknown("unable to get local issuer certificate"),
        Error::InvalidSignatureForPublicKey => {
            Verdict::Unknown("unable to verify the first certificate")
        }
        Error::CaUsedAsEndEntity => Verdict::Unknown("self-signed certificate"),
        Error::CertExpired { .. } => Verdict::Bad("certificate has expired"),
        Error::CertNotValidYet { .. } => Verdict::Bad("certificate is not yet valid"),
        Error::CertRevoked => Verdict::Bad("certificate revoked"),
        Error::UnknownRevocationStatus => Verdict::Bad("unable to get certificate CRL"),
        Error::CrlExpired { .. } => Verdict::Bad("CRL has expired"),
        Error::InvalidCrlSignatureForPublicKey => Verdict::Bad("CRL signature failure"),
        Error::MaximumPathDepthExceeded => Verdict::Bad("certificate chain too long"),
        Error::RequiredEkuNotFoundContext(_) => Verdict::Bad("unsuitable certificate purpose"),
        _ => Verdict::Bad("certificate rejected"),
    }
}
