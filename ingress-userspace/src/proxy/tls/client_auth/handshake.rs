//! The handshake that asks for a certificate, where the server name is that of a host that wants
//! one.
//!
//! It takes every certificate whose key the client has: who gets in is for the requests to say.
//! Such handshakes are never resumed, so that what is revoked or asked for anew counts at once.

use std::io;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{self, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::Acceptor;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::version1::{self, Version1};
use super::{PeerCertificate, Policy};
use crate::proxy::tls::{ServerTls, is_validation};

/// Ends TLS, and asks for a certificate if `policy_of` has a policy for the server name. Returns
/// what the client has shown, if it was asked.
pub(crate) async fn accept(
    stream: TcpStream,
    tls: &ServerTls,
    policy_of: impl FnOnce(Option<&str>) -> Option<Arc<Policy>>,
) -> io::Result<(TlsStream<TcpStream>, Option<PeerCertificate>)> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    // An ACME server has no certificate to show, and gets no further than this handshake.
    let policy = if is_validation(&hello) {
        None
    } else {
        policy_of(hello.server_name())
    };
    let asking = policy.and_then(|policy| {
        let config = policy.config(tls)?;
        Some((policy, config))
    });
    let Some((policy, config)) = asking else {
        return Ok((start.into_stream(tls.config()).await?, None));
    };
    let stream = start.into_stream(config).await?;
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let chain = chain.iter().map(|one| one.clone().into_owned()).collect();
    Ok((stream, Some(PeerCertificate::new(chain, &policy))))
}

/// Asks for a certificate and takes any.
#[derive(Debug)]
pub(crate) struct Asking {
    subjects: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Asking {
    pub(crate) fn new(roots: &RootCertStore, tls: &ServerTls) -> Self {
        Self {
            subjects: roots.subjects(),
            algorithms: tls.signature_algorithms(),
        }
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.subjects
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if let Some(first) = Version1::read(certificate) {
            version1::verify_tls12(message, &first.key(), signed, &self.algorithms)?;
            return Ok(HandshakeSignatureValid::assertion());
        }
        crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if let Some(first) = Version1::read(certificate) {
            let algorithms = &self.algorithms;
            let key = first.key();
            return crypto::verify_tls13_signature_with_raw_key(message, &key, signed, algorithms);
        }
        crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
