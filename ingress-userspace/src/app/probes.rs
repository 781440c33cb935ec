//! Starts the admin port.

use std::io;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::admin::{MetricsSlot, Probes, Question, Readiness};
use crate::proxy::{Identity, Metrics, TableHandle, WorkerHandle};
use crate::settings::Run;
use crate::settings::observe::METRICS_ADDRESS;

/// Serves metrics and probes where the flags say. An address that another daemon has, as while one
/// pod replaces another on the host network, is taken when it is free.
pub(super) async fn start(
    flags: &Run,
    readiness: &Readiness,
    metrics: &MetricsSlot,
    questions: mpsc::Sender<Question>,
) -> Result<()> {
    let address = flags.observe.metrics_address.unwrap_or(METRICS_ADDRESS);
    let probes = Probes {
        readiness: readiness.clone(),
        metrics: metrics.clone(),
        questions,
    };
    match TcpListener::bind(address).await {
        Ok(listener) => {
            tokio::spawn(probes.serve(listener));
        }
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            warn!(%address, "no metrics and probes as long as another has --metrics-address");
            tokio::spawn(async move {
                let listener = loop {
                    sleep(BIND_PAUSE).await;
                    if let Ok(listener) = TcpListener::bind(address).await {
                        break listener;
                    }
                };
                info!(%address, "metrics and probes are served");
                probes.serve(listener).await;
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
    };
    Metrics::new(identity, workers, table.clone())
}

const BIND_PAUSE: Duration = Duration::from_secs(1);
