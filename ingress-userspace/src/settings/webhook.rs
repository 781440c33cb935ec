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
        value_name = "ADDRESS:PORT"
    )]
    pub address: Option<SocketAddr>,

    /// Certificate of the webhook, in PEM; read again when the file changes [default: one that the pods
    /// make and renew themselves].
    #[arg(
        long = "validating-webhook-certificate",
        env = "SLUICE_VALIDATING_WEBHOOK_CERTIFICATE",
        value_name = "FILE",
        requires = "webhook_key"
    )]
    pub certificate: Option<PathBuf>,

    /// Its key, in PEM.
    #[arg(
        id = "webhook_key",
        long = "validating-webhook-key",
        env = "SLUICE_VALIDATING_WEBHOOK_KEY",
        value_name = "FILE",
        requires = "certificate"
    )]
    pub key: Option<PathBuf>,

    /// Service, in the namespace of the pod, by which the API server calls the webhook. The certificate is
    /// kept in the Secret of the same name.
    #[arg(
        long = "validating-webhook-service",
        env = "SLUICE_VALIDATING_WEBHOOK_SERVICE",
        value_name = "NAME",
        default_value = "sluice-webhook"
    )]
    pub service: String,

    /// `ValidatingWebhookConfiguration` whose `caBundle` is set for webhooks that call the Service.
    #[arg(
        long = "validating-webhook-configuration",
        env = "SLUICE_VALIDATING_WEBHOOK_CONFIGURATION",
        value_name = "NAME",
        default_value = "sluice"
    )]
    pub configuration: String,
}

impl Webhook {
    /// The files of the certificate, if the operator names them.
    pub fn files(&self) -> Option<CertificateFiles> {
        Some(CertificateFiles {
            chain: self.certificate.clone()?,
            key: self.key.clone()?,
        })
    }
}
