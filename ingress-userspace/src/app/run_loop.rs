//! The loop of a daemon: what happens, and what it leads to.
//!
//! Two feedback loops begin here. A port that cannot be opened is a diagnostic, so that the observation
//! is applied once more with it; and names that a configuration asks for come back, once they are
//! looked up, as part of the same observation.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use futures_util::StreamExt as _;
use ingress_core::explain::explain;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use super::dashboard::Entrance;
use super::helper::{Datapath, Event};
use super::last_known_good::{self, LastKnownGood};
use super::{App, certificates, trim, wake};
use crate::admin::{AdminRequest, Published};
use crate::control::{Problem, Report};
use crate::source::Observation;

impl App {
    pub(super) async fn serve(&mut self) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut node_changed = wake::Debounced::new(NODE_PAUSE);
        let delay = self.flags.shutdown_delay();
        let mut ending = wake::Ending::new(self.readiness.clone());
        let patience = tokio::time::sleep(last_known_good::PATIENCE);
        tokio::pin!(patience);
        let mut is_patient = self.last_known_good.is_some();
        let mut standby = tokio::time::interval(STANDBY_PAUSE);
        let mut changed = wake::Debounced::new(TRIM_PAUSE);
        let mut expiry = tokio::time::interval(EXPIRY_PAUSE);
        expiry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ports = tokio::time::interval(PORTS_PAUSE);
        ports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = terminate.recv() => ending.ask(delay),
                _ = interrupt.recv() => ending.ask(delay),
                () = ending.due() => return Ok(()),
                Some(observation) = self.observations.recv() => {
                    is_patient = false;
                    if let Some(file) = &self.last_known_good {
                        file.save(&observation.snapshot);
                    }
                    self.observe(observation)?;
                    changed.note();
                }
                () = changed.due() => trim::trim(),
                () = &mut patience, if is_patient => {
                    is_patient = false;
                    let stored = self.last_known_good.as_ref().and_then(LastKnownGood::load);
                    if let Some(observation) = stored {
                        warn!("API server is unreachable; serving the last known configuration");
                        self.observe(observation)?;
                    }
                }
                () = self.names.changed() => {
                    if let Some(observation) = self.last.take() {
                        self.observe(observation)?;
                    }
                }
                Some(event) = self.choice.events.next() => match event {
                    Event::NodeChanged => node_changed.note(),
                    Event::Ended => bail!("the helper process, which has the datapath, has ended"),
                },
                () = node_changed.due() => self.follow_node_or_log(),
                _ = standby.tick(), if self.choice.is_standby && !self.workers.is_empty() => {
                    if let Err(error) = self.take_over() {
                        let reason = format!("{error:#}");
                        error!(reason, "failed to take over the datapath; serving from ordinary sockets");
                        self.choice.reason = Some(reason);
                        self.choice.is_standby = false;
                    }
                }
                _ = expiry.tick(), if self.denied.is_expiring() => self.apply_denied(),
                _ = ports.tick(), if self.are_ports_unsettled() => self.settle_ports(),
                Some(question) = self.questions.recv() => self.answer(question),
            }
        }
    }

    /// Publishes what was observed; the first time starts to serve it.
    fn observe(&mut self, mut observation: Observation) -> Result<()> {
        observation.snapshot.names = self.names.addresses();
        self.apply(&observation);
        self.last = Some(observation);
        if self.workers.is_empty() {
            return self.go_live();
        }
        self.follow_ports();
        self.follow_node_or_log();
        Ok(())
    }

    fn apply(&mut self, observation: &Observation) {
        self.apply_as_it_is(observation);
        // The configuration says which ports are served at addresses that are adopted.
        let config = self.reconciler.config();
        if self.adopted.follow(&observation.snapshot, config) {
            self.apply_as_it_is(observation);
        }
    }

    fn apply_as_it_is(&mut self, observation: &Observation) {
        let Observation {
            snapshot,
            diagnostics,
            problems,
        } = observation;
        let mut diagnostics = diagnostics.clone();
        diagnostics.extend(self.ports.diagnostics(&self.flags.translation()));
        diagnostics.extend_from_slice(self.adopted.diagnostics());
        let problems = problems.iter().map(Problem::error);
        let outcome = self.reconciler.apply(snapshot, &diagnostics, problems);
        self.names.want(outcome.translation.external_names);
        let config = self.reconciler.shared_config();
        if let Some(orders) = &self.orders {
            let wanted = outcome.translation.certificates_wanted.clone();
            orders.update(certificates::input(snapshot, wanted, config.acme.as_ref()));
        }
        let served = (snapshot.clone(), config, self.flags.translation());
        self.judged_beside.send_replace(Some(Arc::new(served)));
        if let Some(reporter) = &self.reporter {
            reporter.update(Report {
                snapshot: snapshot.clone(),
                accepted: outcome.translation.accepted,
                diagnostics: outcome.diagnostics,
            });
        }
    }

    /// Opens and closes ports of services; a port that cannot be opened is reported as a diagnostic.
    pub(super) fn follow_ports(&mut self) {
        let options = self.flags.translation();
        let before = self.ports.diagnostics(&options);
        let config = self.reconciler.config();
        (self.ports).follow(config, &self.workers, self.choice.datapath.as_mut());
        if self.ports.diagnostics(&options) != before
            && let Some(observation) = self.last.take()
        {
            self.apply(&observation);
            self.last = Some(observation);
        }
    }

    fn are_ports_unsettled(&self) -> bool {
        let datapath = self.choice.datapath.as_ref();
        self.ports.are_missing() || datapath.is_some_and(Datapath::is_draining)
    }

    /// Tries again to open ports, and forgets those whose last connection has ended.
    fn settle_ports(&mut self) {
        if let Some(datapath) = &mut self.choice.datapath
            && let Err(error) = datapath.forget_drained()
        {
            error!(
                error = format!("{error:#}"),
                "failed to inspect closed ports"
            );
        }
        self.follow_ports();
        self.follow_node_or_log();
    }

    /// Answers an admin request; its client may have stopped waiting.
    fn answer(&mut self, question: AdminRequest) {
        match question {
            AdminRequest::Status(answer) => {
                let _ = answer.send(self.status());
            }
            AdminRequest::Datapath(answer) => {
                let _ = answer.send(self.datapath_metrics());
            }
            AdminRequest::Published(answer) => {
                let reach = self.choice.datapath.as_ref().map(Datapath::reach);
                let _ = answer.send(Published {
                    config: self.reconciler.shared_config(),
                    reach: reach.unwrap_or_default(),
                });
            }
            AdminRequest::DashboardUrl(answer) => {
                let _ = answer.send(self.dashboard.as_ref().and_then(Entrance::url));
            }
            AdminRequest::Deny { change, answer } => {
                let entries = self.denied.change(change);
                self.apply_denied();
                let _ = answer.send(entries);
            }
            AdminRequest::Explain { question, answer } => {
                let options = self.flags.translation();
                let explanation = self.last.as_ref();
                let explanation =
                    explanation.map(|last| explain(&last.snapshot, &options, &question));
                let _ = answer.send(explanation);
            }
        }
    }

    /// Puts the denied networks in force.
    fn apply_denied(&mut self) {
        let config = self.reconciler.shared_config();
        self.denied.apply(&config, self.choice.datapath.as_ref());
    }

    /// Nothing is steered before there are workers.
    pub(super) fn follow_node(&mut self) -> Result<()> {
        if self.workers.is_empty() {
            return Ok(());
        }
        self.apply_denied();
        let Some(datapath) = &mut self.choice.datapath else {
            return Ok(());
        };
        let plain = if datapath.has_shortcut() {
            self.reconciler.config().plain_endpoints()
        } else {
            BTreeSet::new()
        };
        let endpoints = self.reconciler.endpoint_addresses();
        datapath.reconcile(endpoints, plain, self.adopted.frontends())
    }

    /// The last good state stays in force; the next change tries again.
    pub(super) fn follow_node_or_log(&mut self) {
        if let Err(error) = self.follow_node() {
            error!(
                error = format!("{error:#}"),
                "failed to update the datapath"
            );
        }
    }
}

/// How long after a change memory is given back.
const TRIM_PAUSE: Duration = Duration::from_secs(1);
/// How long after a port could not be opened it is tried again.
const PORTS_PAUSE: Duration = Duration::from_secs(3);
/// How often denied networks are looked at whose time ends.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);
/// How often a daemon without datapath looks whether it can have it.
const STANDBY_PAUSE: Duration = Duration::from_millis(200);
/// Changes of devices, addresses and routes come in bursts; a burst is handled once.
const NODE_PAUSE: Duration = Duration::from_millis(20);
