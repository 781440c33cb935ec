//! Starts the validating webhook, from the flags.

use anyhow::{Context as _, Result, bail};
use kube::Client;
use tokio::sync::watch;

use super::build::Source;
use crate::admin::ServedCertificate;
use crate::admin::webhook::{self, Certificate, Served};
use crate::control::Reporter;
use crate::control::webhook::{Objects, keep};
use crate::settings::Run;

/// Starts the webhook, if the operator asks for it.
pub(super) async fn start(
    flags: &Run,
    source: &Source,
    reporter: Option<&Reporter>,
    served: watch::Receiver<Served>,
) -> Result<()> {
    let Some(address) = flags.webhook.address else {
        return Ok(());
    };
    let certificate = match (flags.webhook.files(), source, reporter) {
        (Some(files), _, _) => {
            let files = ServedCertificate::read(files);
            Certificate::Files(files.context("failed to read the certificate")?)
        }
        (None, Source::Kubernetes(client), Some(reporter)) => {
            let (sender, newest) = watch::channel(None);
            let leading = reporter.leading();
            tokio::spawn(keep(
                client.clone(),
                objects(flags, client),
                leading,
                sender,
            ));
            Certificate::Kept(newest)
        }
        _ => bail!(
            "--validating-webhook needs --validating-webhook-certificate and --validating-webhook-key, \
             or --update-status, by whose Lease one pod makes a certificate for all"
        ),
    };
    tokio::spawn(webhook::serve(address, certificate, served).await?);
    Ok(())
}

fn objects(flags: &Run, client: &Client) -> Objects {
    let namespace = flags.kubernetes.pod_namespace.clone();
    Objects {
        namespace: namespace.unwrap_or_else(|| client.default_namespace().to_owned()),
        service: flags.webhook.service.clone(),
        configuration: flags.webhook.configuration.clone(),
    }
}
