//! Reads objects once, from manifests or the API server, for verbs that serve nothing.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ingress_core::translate::Options;
use tokio::sync::mpsc;

use crate::app::api_server;
use crate::settings::ApiServer;
use crate::source::kubernetes::{self, Selection};
use crate::source::manifests::Manifests;
use crate::source::{Observation, names};

/// The objects of all these files and directories.
pub(super) fn of_manifests(paths: &[PathBuf]) -> Result<Observation> {
    let mut all = Observation::default();
    for path in paths {
        let mut manifests = Manifests::open(path.clone())?;
        let Observation {
            snapshot, problems, ..
        } = manifests.load().into();
        all.problems.extend(problems);
        let into = &mut all.snapshot;
        into.ingresses.extend(snapshot.ingresses.iter().cloned());
        into.ingress_classes
            .extend(snapshot.ingress_classes.iter().cloned());
        into.services.extend(snapshot.services.iter().cloned());
        into.endpoint_slices
            .extend(snapshot.endpoint_slices.iter().cloned());
        into.secrets.extend(snapshot.secrets.iter().cloned());
        into.config_maps
            .extend(snapshot.config_maps.iter().cloned());
    }
    Ok(all)
}

/// The objects of the API server, once all lists are complete.
pub(super) async fn of_cluster(flags: &ApiServer, options: &Options) -> Result<Observation> {
    let client = api_server::client(flags).await?;
    let version = tokio::time::timeout(ANSWER_MAX, client.apiserver_version()).await;
    version
        .context("the API server does not answer")?
        .context("request to the API server failed")?;
    let selection = Selection {
        namespaces: flags.watch_namespaces.clone(),
        namespace_selector: flags.watch_namespace_selector.clone(),
        translation: options.clone(),
        ..Selection::default()
    };
    let (sender, mut observations) = mpsc::channel(1);
    let watching = tokio::spawn(kubernetes::run(client, selection, sender));
    let observed = tokio::time::timeout(LISTS_MAX, observations.recv()).await;
    watching.abort();
    let observed = observed.ok().flatten();
    ensure!(
        observed.is_some(),
        "the API server's lists were not complete after {} s (is everything allowed that has to be \
         read? see SLUICE_LOG=debug)",
        LISTS_MAX.as_secs()
    );
    Ok(observed.unwrap_or_default())
}

/// Looks up the external names that a translation needs, for as long as people wait.
pub(super) async fn look_up_names(observation: &mut Observation, options: &Options) {
    let translation = ingress_core::translate::translate(&observation.snapshot, options);
    let needed = translation.external_names;
    if needed.is_empty() {
        return;
    }
    let (wanted, names) = tokio::sync::watch::channel(std::collections::BTreeSet::new());
    let (addresses, mut found) = tokio::sync::watch::channel(names::Addresses::new());
    let looking = tokio::spawn(names::run(names, addresses));
    wanted.send_replace(needed.clone());
    let complete = found.wait_for(|found| found.len() >= needed.len());
    let _ = tokio::time::timeout(ANSWER_MAX, complete).await;
    observation.snapshot.names = found.borrow().clone();
    looking.abort();
}

const ANSWER_MAX: Duration = Duration::from_secs(10);
const LISTS_MAX: Duration = Duration::from_mins(1);
