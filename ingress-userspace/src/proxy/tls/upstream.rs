//! TLS towards endpoints: what they are shown, and whom they are taken for.
//!
//! Endpoints whose Ingress has a `proxy-ssl-secret` get a configuration of their own; all others share
//! one that takes every certificate.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use hashbrown::HashMap;
use ingress_core::ir::{UpstreamProtocol, UpstreamTls as Wanted};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::proxy::runtime::stream::UpstreamStream;
use crate::proxy::tls::{HTTP_2, HTTP_11};

/// TLS towards endpoints, of one worker.
pub(crate) struct UpstreamTls {
    common: Connectors,
    /// Of backends that want more, by what they want.
    special: RefCell<HashMap<Arc<Wanted>, Connectors>>,
}

/// One configuration with either protocol.
#[derive(Clone)]
struct Connectors {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl UpstreamTls {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        Ok(Self {
            common: Connectors::new(&unverified_client_config()?),
            special: RefCell::default(),
        })
    }

    /// Whatever of TLS the protocol and the backend ask for, on a new connection.
    ///
    /// # Errors
    ///
    /// An I/O error of the handshake; one if the Secret of the backend is unusable, or if the endpoint
    /// does not agree to HTTP/2.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        protocol: UpstreamProtocol,
        address: SocketAddr,
        wanted: Option<&Arc<Wanted>>,
    ) -> io::Result<UpstreamStream> {
        if matches!(
            protocol,
            UpstreamProtocol::Http1 | UpstreamProtocol::Http2 | UpstreamProtocol::Datagrams
        ) {
            return Ok(UpstreamStream::unencrypted(stream));
        }
        let connectors = match wanted {
            None => self.common.clone(),
            Some(wanted) => self.special(wanted)?,
        };
        let connector = if protocol == UpstreamProtocol::Http2Tls {
            connectors.http2
        } else {
            connectors.http1
        };
        let stream = connector.connect(name(wanted, address), stream).await?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if protocol == UpstreamProtocol::Http2Tls && chosen != Some(HTTP_2) {
            return Err(io::Error::other(
                "endpoint does not agree to HTTP/2 by ALPN",
            ));
        }
        Ok(UpstreamStream::Tls(Box::new(stream)))
    }

    fn special(&self, wanted: &Arc<Wanted>) -> io::Result<Connectors> {
        if let Some(known) = self.special.borrow().get(wanted) {
            return Ok(known.clone());
        }
        let made = Connectors::new(&special_config(wanted).map_err(io::Error::other)?);
        let mut special = self.special.borrow_mut();
        if special.len() >= SPECIAL_MAX {
            special.clear();
        }
        special.insert(Arc::clone(wanted), made.clone());
        Ok(made)
    }
}

impl Connectors {
    fn new(config: &ClientConfig) -> Self {
        let connector = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Self {
            http1: connector(HTTP_11),
            http2: connector(HTTP_2),
        }
    }
}

/// The name that an endpoint is taken for. rustls sends it unless it is an address: by default none
/// is sent, as with ingress-nginx (`proxy-ssl-server-name: off`).
fn name(wanted: Option<&Arc<Wanted>>, address: SocketAddr) -> ServerName<'static> {
    let named = wanted.filter(|wanted| wanted.sends_name || wanted.authorities.is_some());
    let name =
        named.and_then(|wanted| ServerName::try_from(wanted.name.as_ref()?.to_string()).ok());
    name.unwrap_or(ServerName::IpAddress(address.ip().into()))
}

/// The configuration of a backend with a Secret.
fn special_config(
    wanted: &Wanted,
) -> Result<ClientConfig, Box<dyn std::error::Error + Send + Sync>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let verifier: Arc<dyn ServerCertVerifier> = match &wanted.authorities {
        None => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Some(authorities) => {
            let mut roots = RootCertStore::empty();
            for authority in CertificateDer::pem_slice_iter(authorities) {
                roots.add(authority?)?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build()?
        }
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &wanted.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let chain = CertificateDer::pem_slice_iter(&identity.chain);
            let chain: Result<Vec<_>, _> = chain.collect();
            let key = PrivateKeyDer::from_pem_slice(&identity.key)?;
            builder.with_client_auth_cert(chain?, key)?
        }
    };
    config.enable_sni = wanted.sends_name;
    Ok(config)
}

/// Configurations of backends with Secrets; more are made anew.
const SPECIAL_MAX: usize = 1024;

/// TLS that hides what is on the wire and proves nothing: every certificate is taken.
///
/// # Errors
///
/// A rustls error if the provider has no cipher suite of a TLS version.
pub(crate) fn unverified_client_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth())
}

/// TLS to servers whose certificates the system's authorities have signed for their names. Where the
/// system has none, no server passes.
///
/// # Errors
///
/// A rustls error if the provider has no cipher suite of a TLS version.
pub(crate) fn verified_client_config() -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "failed to read authorities that the system trusts");
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

/// Takes every certificate, as ingress-nginx does (`proxy-ssl-verify: off`): pods make their own,
/// for names that are unknown outside. TLS encrypts the connection and proves no identity.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    // With any certificate being good, a signature by its key proves nothing either; and webpki
    // would refuse certificates of version 1.
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
