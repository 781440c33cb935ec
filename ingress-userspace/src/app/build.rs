//! Makes the parts, from the settings.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use kube::Client;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::api_server;
use super::helper::{Datapath, Event, Helper, Opened};
use super::publish::Publisher;
use crate::control::Reconciler;
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
    /// The process that has it, or that may have it later.
    pub(super) helper: Option<Helper>,
    /// Why there is none.
    pub(super) reason: Option<String>,
    /// Whether another daemon has it, which may end.
    pub(super) is_standby: bool,
    /// What the helper tells.
    pub(super) events: BoxStream<'static, Event>,
}

impl DatapathChoice {
    fn host(reason: String) -> Self {
        Self {
            datapath: None,
            helper: None,
            reason: Some(reason),
            is_standby: false,
            events: stream::pending().boxed(),
        }
    }
}

/// The helper process, and what it tells.
pub(super) type HelperAndEvents = (Helper, BoxStream<'static, Event>);

/// Starts the helper process, which has to come before this process gives up its privileges.
pub(super) fn helper(flags: &Run) -> Result<Option<HelperAndEvents>> {
    if flags.datapath == DatapathMode::Host {
        return Ok(None);
    }
    let started = Helper::start(&flags.log, flags.log_format);
    started
        .map(Some)
        .context("failed to start the helper process")
}

/// Opens the datapath that was asked for, or the best that there is.
pub(super) fn choose_datapath(
    flags: &Run,
    helper: Option<HelperAndEvents>,
) -> Result<DatapathChoice> {
    let Some((helper, events)) = helper else {
        info!("guard, steer, return_path and dispatch are off: --datapath host asks for it");
        return Ok(DatapathChoice::host(
            "switched off by --datapath host".to_owned(),
        ));
    };
    match helper.open(flags.datapath()) {
        Ok(Opened::Datapath(datapath)) => Ok(DatapathChoice {
            datapath: Some(datapath),
            helper: Some(helper),
            reason: None,
            is_standby: false,
            events,
        }),
        Ok(Opened::Taken) => {
            info!(
                pins = %flags.places.bpffs.display(),
                "another daemon has the datapath: ordinary sockets until it ends"
            );
            let reason = "another daemon has the datapath; this one takes over when it ends";
            Ok(DatapathChoice {
                helper: Some(helper),
                is_standby: true,
                events,
                ..DatapathChoice::host(reason.to_owned())
            })
        }
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
