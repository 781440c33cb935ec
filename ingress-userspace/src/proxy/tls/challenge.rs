//! Challenges by which ACME servers make sure that a host leads here (RFC 8555 §8, RFC 8737): a text over
//! HTTP, or a certificate in a handshake. Every node answers them, whichever one orders.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use ingress_core::ir::{self, Acme, ChallengeKind};
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::PrivateKeyDer;
use rustls::sign::CertifiedKey;

/// The challenges of one generation; there are some while a certificate is ordered.
#[derive(Debug)]
pub(crate) struct Challenges {
    source: Box<[ir::Challenge]>,
    /// Certificates of TLS-ALPN-01 by host.
    certificates: HashMap<Box<str>, Arc<CertifiedKey>>,
}

impl Challenges {
    /// Those of a configuration, if it has any. Certificates that are there already are taken over.
    pub(crate) fn build(
        previous: Option<&Arc<Self>>,
        acme: Option<&Arc<Acme>>,
    ) -> Option<Arc<Self>> {
        let source = &acme.filter(|acme| !acme.challenges.is_empty())?.challenges;
        if let Some(previous) = previous.filter(|previous| previous.source == *source) {
            return Some(Arc::clone(previous));
        }
        let certificate = |challenge: &ir::Challenge| {
            let host: Box<str> = challenge.host.as_str().into();
            let known = previous.filter(|previous| previous.source.contains(challenge));
            let known = known.and_then(|previous| previous.certificates.get(&host));
            let certified = known.cloned().or_else(|| {
                let made = certified_key(challenge);
                let made = made.inspect_err(|error| {
                    tracing::warn!(%host, error, "failed to make the certificate of a challenge");
                });
                made.ok().map(Arc::new)
            });
            Some((host, certified?))
        };
        let by_tls = source.iter();
        let by_tls = by_tls.filter(|challenge| challenge.kind == ChallengeKind::TlsAlpn01);
        Some(Arc::new(Self {
            certificates: by_tls.filter_map(certificate).collect(),
            source: source.clone(),
        }))
    }

    /// The answer to a request, if it is that of an ACME server.
    pub(crate) fn answer(&self, authority: &str, path: &[u8]) -> Option<&Arc<str>> {
        let token = path.strip_prefix(PATH)?;
        let host = authority.split(':').next()?;
        let mut known = self.source.iter();
        let found = known.find(|challenge| {
            challenge.kind == ChallengeKind::Http01
                && challenge.token.as_bytes() == token
                && challenge.host.as_str().eq_ignore_ascii_case(host)
        });
        Some(&found?.key_authorization)
    }

    /// The certificate for the handshake of an ACME server.
    pub(crate) fn certificate(&self, server_name: &str) -> Option<&Arc<CertifiedKey>> {
        self.certificates.get(&*server_name.to_ascii_lowercase())
    }
}

/// A certificate for the host, with the digest of the key authorization in an extension (RFC 8737 §3).
fn certified_key(challenge: &ir::Challenge) -> Result<CertifiedKey, String> {
    let describe = |error: rcgen::Error| error.to_string();
    let names = vec![challenge.host.to_string()];
    let mut parameters = CertificateParams::new(names).map_err(describe)?;
    parameters.distinguished_name = DistinguishedName::new();
    let proof = digest(&SHA256, challenge.key_authorization.as_bytes());
    parameters.custom_extensions = vec![CustomExtension::new_acme_identifier(proof.as_ref())];
    let key = KeyPair::generate().map_err(describe)?;
    let certificate = parameters.self_signed(&key).map_err(describe)?;
    let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
    let chain = vec![certificate.der().clone()];
    // `CertifiedKey::from_der` refuses unknown critical extensions, and RFC 8737 makes this one critical.
    let key = any_supported_type(&key).map_err(|error| error.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

/// RFC 8555 §8.3.
const PATH: &[u8] = b"/.well-known/acme-challenge/";

#[cfg(test)]
mod tests {
    use ingress_core::ir::Host;

    use super::*;

    fn acme(kind: ChallengeKind) -> Arc<Acme> {
        let challenge = ir::Challenge {
            host: Host::parse("a.test").unwrap(),
            kind,
            token: "abc".into(),
            key_authorization: "abc.thumb".into(),
        };
        Arc::new(Acme {
            challenges: [challenge].into(),
            ..Acme::default()
        })
    }

    #[test]
    fn known_token_of_the_host_is_answered_and_nothing_else() {
        let challenges = Challenges::build(None, Some(&acme(ChallengeKind::Http01))).unwrap();
        let answer =
            |host, path: &str| challenges.answer(host, path.as_bytes()).map(|text| &**text);
        let path = "/.well-known/acme-challenge/abc";
        assert_eq!(answer("A.test:80", path), Some("abc.thumb"));
        assert_eq!(answer("b.test", path), None);
        assert_eq!(answer("a.test", "/.well-known/acme-challenge/other"), None);
        assert_eq!(answer("a.test", "/.well-known/acme-challenge/"), None);
        assert_eq!(answer("a.test", "/abc"), None);
        assert!(challenges.certificate("a.test").is_none());
    }

    #[test]
    fn certificate_of_a_challenge_is_kept_from_one_generation_to_the_next() {
        let acme = acme(ChallengeKind::TlsAlpn01);
        let first = Challenges::build(None, Some(&acme)).unwrap();
        let certificate = first.certificate("A.TEST").unwrap();
        let second = Challenges::build(Some(&first), Some(&acme)).unwrap();
        assert!(Arc::ptr_eq(
            certificate,
            second.certificate("a.test").unwrap()
        ));
        assert!(
            first
                .answer("a.test", b"/.well-known/acme-challenge/abc")
                .is_none()
        );
        assert!(Challenges::build(Some(&first), None).is_none());
    }
}
