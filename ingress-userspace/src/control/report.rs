//! What the leader of all pods writes to the API server: addresses of Ingresses and Events.
//!
//! Everything here may be slow or fail without a request noticing. Each writer works on the
//! newest report only; what it could not write it tries again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ingress_core::diagnostic::Diagnostic;
use ingress_core::object::Ingress;
use ingress_core::shared::Shared;
use ingress_core::snapshot::Snapshot;
use kube::{Client, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use super::events::{EventRecorder, events};
use super::leader::{Candidate, campaign, resign};
use super::status::{self, Addresses};

/// What was observed, and what it came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// The objects.
    pub snapshot: Snapshot,
    /// The Ingresses that are ours.
    pub accepted: Shared<Vec<Arc<Ingress>>>,
    /// What is wrong with which object.
    pub diagnostics: Vec<Diagnostic>,
}

/// What to write, and as whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Part in the election; its identity is also who Events are from.
    pub candidate: Candidate,
    /// Which addresses Ingresses get.
    pub addresses: Addresses,
    /// Name of the controller in Events.
    pub controller: String,
    /// The pod that this runs in.
    pub pod_name: Option<String>,
}

/// Writes reports while this pod leads.
pub struct Reporter {
    client: Client,
    settings: Settings,
    reports: watch::Sender<Option<Arc<Report>>>,
    leading: watch::Receiver<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Reporter {
    /// Takes part in the election and waits for reports.
    pub fn start(client: Client, settings: Settings) -> Self {
        let (reports, newest) = watch::channel(None);
        let (is_leading, leading) = watch::channel(false);
        let inbox = Inbox {
            reports: newest,
            leading: leading.clone(),
        };
        let identity = settings.candidate.identity.clone();
        let teller = EventRecorder::new(client.clone(), settings.controller.clone(), identity);
        let tasks = vec![
            tokio::spawn(campaign(
                client.clone(),
                settings.candidate.clone(),
                is_leading,
            )),
            tokio::spawn(write_statuses(
                client.clone(),
                settings.addresses.clone(),
                inbox.clone(),
            )),
            tokio::spawn(tell_events(teller, inbox)),
        ];
        Self {
            client,
            settings,
            reports,
            leading,
            tasks,
        }
    }

    /// Tells whether this pod leads.
    pub fn leading(&self) -> watch::Receiver<bool> {
        self.leading.clone()
    }

    /// Gives the newest report.
    pub fn update(&self, report: Report) {
        self.reports.send_replace(Some(Arc::new(report)));
    }

    /// Ends: takes the addresses back if nobody is left to serve them, and gives the Lease up. For
    /// thousands of Ingresses that takes a while: it may take as long as requests, `grace`.
    pub async fn stop(self, grace: Duration) {
        let was_leading = *self.leading.borrow();
        for task in &self.tasks {
            task.abort();
        }
        let patience = grace.max(PATIENCE_MIN);
        if was_leading && timeout(patience, self.hand_over()).await.is_err() {
            warn!("timed out releasing the leader lease and clearing Ingress status");
        }
    }

    async fn hand_over(&self) {
        let report = self.reports.borrow().clone();
        if let Some(report) = report.filter(|report| self.is_last(report)) {
            info!("last pod is shutting down; clearing the addresses of Ingresses");
            let addresses = status::addresses(&self.settings.addresses, &report.snapshot);
            status::take_back(&self.client, &report.accepted, !addresses.is_empty()).await;
        }
        if let Err(error) = resign(self.client.clone(), &self.settings.candidate).await {
            warn!(%error, "failed to release the Lease; other pods wait until it expires");
        }
    }

    fn is_last(&self, report: &Report) -> bool {
        let mut pods = report.snapshot.pods.iter();
        let me = self.settings.pod_name.as_deref();
        !pods.any(|pod| status::is_ready(pod) && Some(&*pod.name_any()) != me)
    }
}

/// What a writer listens to.
#[derive(Clone)]
struct Inbox {
    reports: watch::Receiver<Option<Arc<Report>>>,
    leading: watch::Receiver<bool>,
}

impl Inbox {
    /// Hands each new report to `write` while this pod leads, and the same again after a pause
    /// when `write` tells that something failed. Ends with the reporter.
    async fn each<F: Future<Output = usize>>(mut self, mut write: impl FnMut(Arc<Report>) -> F) {
        let mut has_failed = false;
        loop {
            tokio::select! {
                changed = self.reports.changed() => if changed.is_err() { return },
                changed = self.leading.changed() => if changed.is_err() { return },
                () = sleep(RETRY_PAUSE), if has_failed => {}
            }
            // News come in bursts.
            sleep(BURST_PAUSE).await;
            let report = self.reports.borrow_and_update().clone();
            let is_leading = *self.leading.borrow_and_update();
            has_failed = match report {
                Some(report) if is_leading => write(report).await > 0,
                _ => false,
            };
        }
    }
}

async fn write_statuses(client: Client, which: Addresses, inbox: Inbox) {
    let write = |report: Arc<Report>| {
        let (client, which) = (client.clone(), which.clone());
        async move {
            let addresses = status::addresses(&which, &report.snapshot);
            status::write(&client, &report.accepted, &addresses).await
        }
    };
    inbox.each(write).await;
}

async fn tell_events(teller: EventRecorder, inbox: Inbox) {
    let teller = Arc::new(tokio::sync::Mutex::new(teller));
    let write = |report: Arc<Report>| {
        let teller = Arc::clone(&teller);
        async move {
            let Report {
                accepted,
                diagnostics,
                snapshot,
            } = &*report;
            let events = events(accepted, diagnostics, snapshot);
            teller.lock().await.tell(&events).await
        }
    };
    inbox.each(write).await;
}

const RETRY_PAUSE: Duration = Duration::from_secs(2);
const BURST_PAUSE: Duration = Duration::from_millis(200);
/// For the farewell of a pod that gives requests less.
const PATIENCE_MIN: Duration = Duration::from_secs(5);
