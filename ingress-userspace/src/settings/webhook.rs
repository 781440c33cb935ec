//! Flags of the validating webhook.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;

use crate::admin::CertificateFiles;

/// The validating webhook.
#[derive(Clone, Debug, Args)]
pub struct Webhook {
    /// Address at which the API server asks whether an Ingress would be served [default: none].
    #[arg(
        long = "validating-webhook",
        env = "SLUICE_VALIDATING_WEBHOOK",
        value_name = "ADDRESS:PORT",
        requires_all = ["certificate", "key"]
    )]
    pub address: Option<SocketAddr>,

    /// Certificate of the webhook, in PEM; read again when the file changes.
    #[arg(
        long = "validating-webhook-certificate",
        env = "SLUICE_VALIDATING_WEBHOOK_CERTIFICATE",
        value_name = "FILE"
    )]
    pub certificate: Option<PathBuf>,

    /// Its key, in PEM.
    #[arg(
        long = "validating-webhook-key",
        env = "SLUICE_VALIDATING_WEBHOOK_KEY",
        value_name = "FILE"
    )]
    pub key: Option<PathBuf>,
}

impl Webhook {
    /// Where it listens and where its certificate is, if it is asked for.
    pub fn address_and_files(&self) -> Option<(SocketAddr, CertificateFiles)> {
        let files = CertificateFiles {
            chain: self.certificate.clone()?,
            key: self.key.clone()?,
        };
        Some((self.address?, files))
    }
}
