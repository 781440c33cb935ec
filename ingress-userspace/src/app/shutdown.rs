//! The end of a daemon, in the order in which nothing is lost.

use std::fs;
use std::time::Duration;

use tracing::{error, info, warn};

use super::App;
use super::migrate::Migration;
use crate::admin;

impl App {
    /// Ends in the order in which nothing is lost: new connections elsewhere, those in flight to
    /// their end, then everything in the kernel.
    pub(super) async fn stop(mut self) {
        let grace = self.flags.grace();
        info!(grace_seconds = grace.as_secs(), "shutting down");
        self.readiness.drain();
        if let Some(datapath) = &mut self.choice.datapath {
            log_failure(
                "new connections are still steered",
                datapath.stop_accepting(),
            );
        }
        let migration = Migration::begin();
        let mut workers = std::mem::take(&mut self.workers);
        for worker in &mut workers {
            worker.shut_down(grace);
        }
        let joined = tokio::task::spawn_blocking(move || {
            workers
                .into_iter()
                .filter_map(|worker| worker.join().err())
                .count()
        });
        // Before the Lease is given up: the next leader orders.
        drop(self.orders.take());
        let reporter = self.reporter.take();
        let told = async {
            if let Some(reporter) = reporter {
                reporter.stop(grace).await;
            }
        };
        let (joined, ()) = tokio::join!(joined, told);
        if joined.unwrap_or(1) > 0 {
            error!("a worker thread had panicked");
        }
        drop(migration);
        // Workers are gone and this drops the last sender: the writer writes its queue and ends.
        drop(self.telemetry.access_log.take());
        if let Some(writer) = self.telemetry.log_writer.take() {
            writer.finish(LOG_PATIENCE);
        }
        if let Some(tracer) = self.telemetry.tracer.take() {
            // Beside this runtime, which carries what is sent.
            let _ = tokio::task::spawn_blocking(move || tracer.stop(TRACE_PATIENCE)).await;
        }
        if let Some(datapath) = self.choice.datapath.take() {
            // The ingress netns goes with everything that its sockets still have to send.
            tokio::time::sleep(LAST_BYTES_PAUSE).await;
            log_failure("cleanup is incomplete", datapath.close());
        }
        drop(self.choice.helper.take());
        let _ = fs::remove_file(admin::socket_path(&self.flags.places.run_dir.path()));
        info!("stopped");
    }
}

fn log_failure(consequence: &str, outcome: anyhow::Result<()>) {
    if let Err(error) = outcome {
        warn!(error = format!("{error:#}"), "{consequence}");
    }
}

/// How long the trace collector gets to take the last spans.
const TRACE_PATIENCE: Duration = Duration::from_secs(2);
/// How long closed connections have for their last bytes, before the netns goes.
const LAST_BYTES_PAUSE: Duration = Duration::from_secs(1);
/// How long the last lines of the access log may take.
const LOG_PATIENCE: Duration = Duration::from_secs(2);
