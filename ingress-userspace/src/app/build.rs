//! Makes the parts, from the settings.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kube::Client;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::api_server;
use super::claim::Claim;
use super::publish::Publisher;
use crate::control::Reconciler;
use crate::datapath::{Datapath, Report};
use crate::proxy::{
    AccessLog, DefaultCertificate, LogWriter, Table, TableHandle, TlsOptions, Tracer,
};
use crate::settings::{DatapathMode, Run};
use crate::source::manifests::{Manifests, Watch};
use crate::source::{Observation, kubernetes};

/// How packets reach the workers.
pub(super) struct DatapathChoice {
    /// The netns datapath, where there is one.
    pub(super) datapath: Option<Datapath>,
    /// That nobody else has it.
    pub(super) claim: Option<Claim>,
    /// Why there is none.
    pub(super) reason: Option<String>,
    /// Whether another daemon has it, which may end.
    pub(super) is_standby: bool,
    /// Yields when the node has changed and the datapath has to follow.
    pub(super) node_changes: BoxStream<'static, ()>,
}

impl DatapathChoice {
    fn host(reason: String) -> Self {
        Self {
            datapath: None,
            claim: None,
            reason: Some(reason),
            is_standby: false,
            node_changes: stream::pending().boxed(),
        }
    }
}

/// Opens the datapath that was asked for, or the best that there is.
pub(super) async fn choose_datapath(flags: &Run) -> Result<DatapathChoice> {
    if flags.datapath == DatapathMode::Host {
        info!("guard, steer, return_path and dispatch are off: --datapath host asks for it");
        return Ok(DatapathChoice::host(
            "switched off by --datapath host".to_owned(),
        ));
    }
    let report = Report::of_this_machine(&flags.places.bpffs, flags.upstream_ports);
    info!("this machine:\n{report}");
    match netns_way(flags, &report).await {
        Ok(way) => Ok(way),
        Err(error) if flags.datapath == DatapathMode::Netns => {
            Err(error).context("--datapath netns is set, but the netns datapath is unavailable")
        }
        Err(error) => {
            let reason = format!("{error:#}");
            warn!(
                reason,
                "guard, steer, return_path and dispatch are off: ordinary sockets serve"
            );
            Ok(DatapathChoice::host(reason))
        }
    }
}

/// Through the ingress netns, at once or when another daemon has ended.
async fn netns_way(flags: &Run, report: &Report) -> Result<DatapathChoice> {
    let pins = &flags.places.bpffs;
    let mut claim = None;
    // Without bpffs there is nothing to lock; opening the datapath says what is missing.
    if report.obstacle().is_none() {
        claim = Claim::take(pins).context("failed to claim the datapath of this node")?;
        if claim.is_none() {
            info!(
                pins = %pins.display(),
                "another daemon has the datapath: ordinary sockets until it ends"
            );
            let reason = "another daemon has the datapath; this one takes over when it ends";
            return Ok(DatapathChoice {
                is_standby: true,
                ..DatapathChoice::host(reason.to_owned())
            });
        }
    }
    let (datapath, changes) = Datapath::open(flags.datapath(), report).await?;
    Ok(DatapathChoice {
        datapath: Some(datapath),
        claim,
        reason: None,
        is_standby: false,
        node_changes: changes.boxed(),
    })
}

/// The access log, if there is to be one.
pub(super) fn access_log(flags: &Run) -> Result<Option<(AccessLog, LogWriter)>> {
    let wanted = flags.observe.access_log();
    let Some((template, target)) = wanted.context("failed to read --access-log-format")? else {
        return Ok(None);
    };
    let started = AccessLog::start(template, target);
    started.map(Some).context("failed to open the access log")
}

/// What tells a collector of requests, if there is one to tell.
pub(super) fn tracer(flags: &Run) -> Result<Option<Tracer>> {
    let options = flags.observe.traces();
    let tracer = options.as_ref().map(Tracer::start).transpose();
    tracer.context("failed to start tracing")
}

/// Where objects come from.
pub(super) enum Source {
    /// Files, watched until this is dropped.
    Manifests(#[expect(dead_code, reason = "held for its drop")] Watch),
    /// The API server, watched by a task of its own, and reached for writing by this client.
    Kubernetes(Client),
}

/// Starts to observe; observations come through `sender`.
pub(super) async fn source(flags: &Run, sender: mpsc::Sender<Observation>) -> Result<Source> {
    let Some(path) = &flags.manifests else {
        let client = api_server::client(&flags.kubernetes.api_server).await?;
        let selection = api_server::selection(flags);
        tokio::spawn(kubernetes::run(client.clone(), selection, sender));
        return Ok(Source::Kubernetes(client));
    };
    let mut manifests = Manifests::open(path.clone())?.watch()?;
    // Empty as yet, so that there is room for the first.
    let _ = sender.try_send(manifests.load().into());
    let watch = manifests.follow(move |loaded| {
        // The loop is gone only when the process ends.
        let _ = sender.blocking_send(loaded.into());
    })?;
    Ok(Source::Manifests(watch))
}

/// What turns snapshots into tables, and the handle by which workers see them.
pub(super) fn configuration(
    flags: &Run,
    tls: &TlsOptions,
) -> Result<(Reconciler<Publisher>, TableHandle)> {
    let default_certificate = DefaultCertificate::generate()?;
    let handle = TableHandle::new(Table::empty(&default_certificate), tls)
        .context("failed to prepare the TLS configuration")?;
    let publisher = Publisher {
        default_certificate,
        handle: handle.clone(),
    };
    Ok((Reconciler::new(flags.translation(), publisher), handle))
}
