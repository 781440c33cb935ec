//! Starts the admin port.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admin::Admin;
use crate::proxy::{Identity, Metrics, TableHandle, WorkerHandle};
use crate::settings::Run;
use crate::settings::observe::METRICS_ADDRESS;

/// Serves metrics and probes where the flags say. An address that another daemon has, as while one
/// pod replaces another on the host network, is taken when it is free.
pub(super) async fn start(flags: &Run, admin: Admin) -> Result<()> {
    let address = flags.observe.metrics_address.unwrap_or(METRICS_ADDRESS);
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tokio::spawn(admin.serve(listener));
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            warn!(%address, "--metrics-address is in use: metrics and probes are served once it is free");
            tokio::spawn(async move {
                let listener = loop {
                    sleep(BIND_PAUSE).await;
                    if let Ok(listener) = TcpListener::bind(address).await {
                        break listener;
                    }
                };
                info!(%address, "metrics and probes are served");
                admin.serve(listener).await;
            });
        }
        Err(error) => {
            return Err(error)
                .with_context(|| format!("failed to listen on `{address}` (--metrics-address)"));
        }
    }
    Ok(())
}

/// The metrics of all workers.
pub(super) fn metrics(flags: &Run, workers: &[WorkerHandle], table: &TableHandle) -> Metrics {
    let identity = Identity {
        class: flags.meaning.controller_class.clone(),
        namespace: flags.kubernetes.pod_namespace.clone().unwrap_or_default(),
        pod: flags.kubernetes.pod_name.clone().unwrap_or_default(),
        ignored_annotations: flags.meaning.ignored_annotations.clone(),
    };
    Metrics::new(identity, workers, table.clone())
}

const BIND_PAUSE: Duration = Duration::from_secs(1);
