//! Questions to the app's loop and to the workers, for every socket that answers operators: the admin
//! sockets and the dashboard give the same values.

use ingress_core::explain::{Explanation, Question};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::readiness::MetricsSlot;
use super::{AdminRequest, DenyChange, DenyEntry, Published, Status};
use crate::api::{Certificate, Endpoint, Route, Traffic, certificates, endpoints, routes};
use crate::proxy::TrafficBy;

/// Asks the app's loop and reads what workers count. `None` answers mean that the daemon is about to end.
#[derive(Clone)]
pub struct Questions {
    app: mpsc::Sender<AdminRequest>,
    metrics: MetricsSlot,
}

impl Questions {
    /// Questions to a loop and to the workers behind a slot.
    pub fn new(app: mpsc::Sender<AdminRequest>, metrics: MetricsSlot) -> Self {
        Self { app, metrics }
    }

    /// The state of the daemon.
    pub async fn status(&self) -> Option<Status> {
        self.ask(AdminRequest::Status).await
    }

    /// The routes of the published configuration; the loop hands out pointers only.
    pub async fn routes(&self) -> Option<Vec<Route>> {
        let published = self.published().await?;
        Some(routes(&published.config))
    }

    /// The endpoints of the published configuration.
    pub async fn endpoints(&self) -> Option<Vec<Endpoint>> {
        let published = self.published().await?;
        Some(endpoints(&published.config, &published.reach.direct))
    }

    /// The certificates of the published configuration.
    pub async fn certificates(&self, now: Timestamp) -> Option<Vec<Certificate>> {
        let published = self.published().await?;
        Some(certificates(&published.config, now))
    }

    /// Sums of requests; none before there are workers.
    pub async fn traffic(&self, by: TrafficBy) -> Option<Vec<Traffic>> {
        let Some(metrics) = self.metrics.load() else {
            return Some(Vec::new());
        };
        let traffic = spawn_blocking(move || metrics.traffic(by)).await.ok()?;
        Some(traffic.into_iter().map(Traffic::from).collect())
    }

    /// Which object serves a request; `Some(None)` before anything is served.
    pub async fn explain(&self, question: Question) -> Option<Option<Explanation>> {
        let question = Box::new(question);
        self.ask(|answer| AdminRequest::Explain { question, answer })
            .await
    }

    /// The denied networks, after a change.
    pub(super) async fn deny(&self, change: DenyChange) -> Option<Vec<DenyEntry>> {
        self.ask(|answer| AdminRequest::Deny { change, answer })
            .await
    }

    /// The part of a new URL of the dashboard behind its host; `Some(None)` if there is no dashboard.
    pub(super) async fn dashboard_url(&self) -> Option<Option<String>> {
        self.ask(AdminRequest::DashboardUrl).await
    }

    async fn published(&self) -> Option<Published> {
        self.ask(AdminRequest::Published).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> AdminRequest) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        self.app.send(question(sender)).await.ok()?;
        answer.await.ok()
    }
}
