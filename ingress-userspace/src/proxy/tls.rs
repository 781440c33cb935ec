//! TLS: one configuration towards clients for all workers, and two towards endpoints.

pub(crate) mod certificate;
pub(crate) mod client_auth;
mod options;
mod tickets;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use ingress_core::ir::UpstreamProtocol;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::proxy::runtime::stream::UpstreamStream;

pub use options::{CipherError, CipherSuites, Tickets, TlsOptions, TlsVersion};
pub use tickets::{TicketKeyError, TicketKeys};

/// TLS towards clients, for all workers.
#[derive(Debug)]
pub(crate) struct ServerTls {
    config: Arc<ServerConfig>,
    resolver: Arc<dyn ResolvesServerCert>,
    options: TlsOptions,
}

impl ServerTls {
    /// HTTP/2 before HTTP/1.1, certificates by `resolver`.
    pub(crate) fn new(
        resolver: Arc<dyn ResolvesServerCert>,
        options: &TlsOptions,
    ) -> Result<Self, rustls::Error> {
        let mut config = server_config(&resolver, options, Arc::new(NoClientAuth))?;
        match &options.tickets {
            Tickets::Own => config.ticketer = aws_lc_rs::Ticketer::new()?,
            Tickets::Shared(keys) => {
                config.ticketer = Arc::clone(keys) as Arc<dyn ProducesTickets>;
            }
            Tickets::Off => config.send_tls13_tickets = 0,
        }
        Ok(Self {
            config: Arc::new(config),
            resolver,
            options: options.clone(),
        })
    }

    /// That of hosts that ask for nothing.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }

    /// One that asks for certificates. Its sessions are not resumed.
    pub(crate) fn asking(
        &self,
        verifier: Arc<dyn ClientCertVerifier>,
    ) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = server_config(&self.resolver, &self.options, verifier)?;
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    /// What signatures may be made with.
    pub(crate) fn signature_algorithms(&self) -> WebPkiSupportedAlgorithms {
        self.config
            .crypto_provider()
            .signature_verification_algorithms
    }
}

fn server_config(
    resolver: &Arc<dyn ResolvesServerCert>,
    options: &TlsOptions,
    verifier: Arc<dyn ClientCertVerifier>,
) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(options.provider())
        .with_protocol_versions(&options.versions())?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::clone(resolver));
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_11.to_vec()];
    // Sessions are resumed by stateless tickets: a cache would be a lock that workers share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// TLS towards endpoints, of one worker.
pub(crate) struct UpstreamTls {
    http1: TlsConnector,
    http2: TlsConnector,
}

impl UpstreamTls {
    pub(crate) fn new() -> Result<Self, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        let connector = |protocol: &[u8]| {
            let mut config = config.clone();
            config.alpn_protocols = vec![protocol.to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Ok(Self {
            http1: connector(HTTP_11),
            http2: connector(HTTP_2),
        })
    }

    /// Whatever of TLS the protocol asks for, on a new connection.
    pub(crate) async fn connect(
        &self,
        stream: TcpStream,
        protocol: UpstreamProtocol,
        address: SocketAddr,
    ) -> io::Result<UpstreamStream> {
        let connector = match protocol {
            UpstreamProtocol::Http1 | UpstreamProtocol::Http2 | UpstreamProtocol::Datagrams => {
                return Ok(UpstreamStream::Tcp(stream));
            }
            UpstreamProtocol::Https => &self.http1,
            UpstreamProtocol::Http2Tls => &self.http2,
        };
        // No SNI, as with ingress-nginx (`proxy-ssl-server-name: off`): a pod has no name.
        let name = ServerName::IpAddress(address.ip().into());
        let stream = connector.connect(name, stream).await?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if protocol == UpstreamProtocol::Http2Tls && chosen != Some(HTTP_2) {
            return Err(io::Error::other(
                "endpoint does not agree to HTTP/2 by ALPN",
            ));
        }
        Ok(UpstreamStream::Tls(Box::new(stream)))
    }
}

/// Takes every certificate, as ingress-nginx does (`proxy-ssl-verify: off`): pods make their own,
/// for names that nobody outside knows. TLS hides what is on the wire and proves nothing.
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

/// ALPN protocol of HTTP/2 (RFC 9113 §3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// ALPN protocol of HTTP/1.1 (RFC 7301 §6).
const HTTP_11: &[u8] = b"http/1.1";
