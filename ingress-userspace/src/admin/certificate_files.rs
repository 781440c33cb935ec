//! The certificate of a socket for operators, in files: the validating webhook's and the dashboard's.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tracing::warn;

/// Where a certificate is.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The chain, in PEM.
    pub chain: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

/// The certificate that is served.
pub struct ServedCertificate {
    files: CertificateFiles,
    modified: Option<SystemTime>,
    config: Arc<ServerConfig>,
}

impl ServedCertificate {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// An error if they cannot be read or do not fit each other.
    pub fn read(files: CertificateFiles) -> Result<Self> {
        Ok(Self {
            modified: modified(&files),
            config: Arc::new(read(&files)?),
            files,
        })
    }

    /// Reads files that have changed; while they cannot be read, the last certificate is served.
    pub fn renew(&mut self) {
        let modified = modified(&self.files);
        if modified == self.modified {
            return;
        }
        match read(&self.files) {
            Ok(config) => self.config = Arc::new(config),
            Err(error) => {
                let file = self.files.chain.display();
                warn!(%file, "failed to read a changed certificate again: {error:#}");
            }
        }
        self.modified = modified;
    }

    /// The settings for handshakes.
    pub(crate) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config)
    }
}

fn modified(files: &CertificateFiles) -> Option<SystemTime> {
    fs::metadata(&files.chain).ok()?.modified().ok()
}

fn read(files: &CertificateFiles) -> Result<ServerConfig> {
    config(&fs::read(&files.chain)?, &fs::read(&files.key)?)
}

/// The settings for handshakes with this chain and key, both in PEM.
///
/// # Errors
///
/// An error if one of them is not PEM, or if they do not fit each other.
pub(crate) fn config(chain: &[u8], key: &[u8]) -> Result<ServerConfig> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth();
    Ok(builder.with_single_cert(chain, key)?)
}
