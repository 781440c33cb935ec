//! Decides where ordered certificates go, from the flags.

use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use ingress_core::shared::Shared;
use ingress_core::snapshot::Snapshot;

use super::build::Source;
use crate::acme::{Input, Orders, Place, Settings};
use crate::control::Reporter;
use crate::settings::Run;

/// Starts the ACME client, if the operator names an issuer.
pub(super) fn start(
    flags: &Run,
    source: &Source,
    reporter: Option<&Reporter>,
) -> Result<Option<Orders>> {
    let Some(state) = flags.translation().acme_state else {
        return Ok(None);
    };
    let place = match (source, reporter, &flags.manifests) {
        (Source::Kubernetes(client), Some(reporter), _) => {
            Place::Cluster(client.clone(), reporter.leading())
        }
        (Source::Manifests(_), _, Some(path)) => {
            let is_directory = path.is_dir();
            let name = path.display();
            ensure!(
                is_directory,
                "--acme-issuer needs a directory for its Secrets, and --manifests `{name}` is a file"
            );
            Place::Directory(path.clone())
        }
        _ => {
            bail!("--acme-issuer needs --update-status, by whose Lease one pod becomes the leader")
        }
    };
    let settings = Settings {
        issuers: flags.meaning.acme_issuers.clone(),
        state,
        limits: flags.acme.limits(),
    };
    let orders = Orders::start(settings, place).context("failed to start ACME")?;
    Ok(Some(orders))
}

/// The part of a snapshot that the ACME client depends on.
pub(super) fn input(
    snapshot: &Snapshot,
    wanted: Shared<Vec<ingress_core::acme::Wanted>>,
    published: Option<&Arc<ingress_core::ir::Acme>>,
) -> Input {
    Input {
        wanted,
        secrets: snapshot.secrets.clone(),
        published: published.cloned(),
    }
}
