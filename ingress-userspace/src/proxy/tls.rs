//! The TLS side of downstream connections: one configuration for all workers.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};

/// TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, certificates by `resolver`.
pub(super) fn server_config(
    resolver: Arc<dyn ResolvesServerCert>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![HTTP_2.to_vec(), HTTP_11.to_vec()];
    // Sessions are resumed by stateless tickets: a cache would be a lock that workers share.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    Ok(Arc::new(config))
}

/// ALPN protocol of HTTP/2 (RFC 9113 §3.2).
pub(super) const HTTP_2: &[u8] = b"h2";

/// ALPN protocol of HTTP/1.1 (RFC 7301 §6).
const HTTP_11: &[u8] = b"http/1.1";
