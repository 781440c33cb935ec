//! Makes the parts, from the settings.

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::publish::Publisher;
use crate::control::Reconciler;
use crate::datapath::{Datapath, Report};
use crate::proxy::{DefaultCertificate, Table, TableHandle};
use crate::settings::{DatapathMode, Run};
use crate::source::manifests::{Loaded, Manifests, Watch};

/// How packets reach the workers.
pub(super) struct Way {
    /// The netns datapath, where there is one.
    pub(super) datapath: Option<Datapath>,
    /// Why there is none.
    pub(super) reason: Option<String>,
    /// Yields when the node has changed and the datapath has to follow.
    pub(super) node_changes: BoxStream<'static, ()>,
}

impl Way {
    fn host(reason: String) -> Self {
        Self {
            datapath: None,
            reason: Some(reason),
            node_changes: stream::pending().boxed(),
        }
    }
}

/// Opens the datapath that was asked for, or the best that there is.
pub(super) async fn way(flags: &Run) -> Result<Way> {
    if flags.datapath == DatapathMode::Host {
        info!("guard, steer, return_path and dispatch are off: --datapath host asks for it");
        return Ok(Way::host("switched off by --datapath host".to_owned()));
    }
    let report = Report::of_this_machine(&flags.places.bpffs, flags.upstream_ports);
    info!("this machine:\n{report}");
    match Datapath::open(flags.datapath(), &report).await {
        Ok((datapath, changes)) => Ok(Way {
            datapath: Some(datapath),
            reason: None,
            node_changes: changes.boxed(),
        }),
        Err(error) if flags.datapath == DatapathMode::Netns => {
            Err(error).context("there can be no netns datapath, which --datapath netns asks for")
        }
        Err(error) => {
            let reason = format!("{:#}", anyhow::Error::from(error));
            warn!(
                reason,
                "guard, steer, return_path and dispatch are off: ordinary sockets serve"
            );
            Ok(Way::host(reason))
        }
    }
}

/// The manifests as they are now; later ones come through `sender`.
pub(super) fn source(flags: &Run, sender: mpsc::Sender<Loaded>) -> Result<(Loaded, Watch)> {
    let mut manifests = Manifests::open(flags.manifests.clone())?;
    let first = manifests.load();
    let watch = manifests.watch(move |loaded| {
        // The loop is gone only when the process ends.
        let _ = sender.blocking_send(loaded);
    })?;
    Ok((first, watch))
}

/// What turns snapshots into tables, and the handle by which workers see them.
pub(super) fn configuration(flags: &Run) -> Result<(Reconciler<Publisher>, TableHandle)> {
    let default_certificate = DefaultCertificate::generate()?;
    let handle = TableHandle::new(Table::empty(&default_certificate))
        .context("failed to prepare the TLS configuration")?;
    let publisher = Publisher {
        default_certificate,
        handle: handle.clone(),
    };
    Ok((Reconciler::new(flags.translation(), publisher), handle))
}
