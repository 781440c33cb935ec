//! TLS: one configuration towards clients for all workers, and two towards endpoints.

pub(crate) mod certificate;
pub(crate) mod challenge;
pub(crate) mod client_auth;
mod options;
mod tickets;
pub(crate) mod upstream;

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, NoServerSessionStorage, ProducesTickets, ResolvesServerCert,
};

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
    // The last is chosen only by a client that offers no other.
    config.alpn_protocols = [HTTP_2, HTTP_11, ACME_TLS].map(<[u8]>::to_vec).into();
    // Sessions are resumed by stateless tickets: a cache would be a lock that workers share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// ALPN protocol of HTTP/2 (RFC 9113 §3.2).
pub(crate) const HTTP_2: &[u8] = b"h2";

/// ALPN protocol by which an ACME server validates a host (RFC 8737 §6.2).
pub(crate) const ACME_TLS: &[u8] = b"acme-tls/1";

/// Whether a handshake is an ACME server's that validates a host: it offers this one protocol
/// (RFC 8737 §3).
pub(crate) fn is_validation(hello: &ClientHello<'_>) -> bool {
    let mut offered = hello.alpn().into_iter().flatten();
    offered.next() == Some(ACME_TLS) && offered.next().is_none()
}

/// ALPN protocol of HTTP/1.1 (RFC 7301 §6).
pub(crate) const HTTP_11: &[u8] = b"http/1.1";
