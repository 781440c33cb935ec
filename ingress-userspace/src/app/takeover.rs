//! The begin of service: with the first configuration, and again when the daemon that had the datapath
//! has ended.

use anyhow::{Result, bail};
use tracing::{error, info};

use super::helper::Opened;
use super::migrate::Migration;
use super::ports::Ports;
use super::{App, probes, process, workers};
use crate::proxy::SharedDenyList;
use crate::settings::Run;

impl App {
    pub(super) fn go_live(&mut self) -> Result<()> {
        self.start_workers()?;
        self.follow_ports();
        if let Some(failure) = self.ports.failure_of_flags(&self.flags.translation()) {
            bail!("{failure}");
        }
        self.follow_node()?;
        self.readiness.ready();
        self.log_serving();
        Ok(())
    }

    fn start_workers(&mut self) -> Result<()> {
        let (log, tracer) = (
            self.telemetry.access_log.clone(),
            self.telemetry.tracer.clone(),
        );
        let mut options = (self.flags).worker_options(process::machine(), log, tracer);
        options.tail = self.tail.clone();
        options.clients.denied = SharedDenyList(self.denied.acceptors());
        let datapath = self.choice.datapath.as_mut();
        self.workers = workers::start(&self.flags, datapath, &self.table, options)?;
        self.ports = Ports::default();
        let metrics = probes::metrics(&self.flags, &self.workers, &self.table);
        self.metrics.fill(metrics);
        Ok(())
    }

    /// Takes the datapath if the daemon that had it has ended: new workers behind it, then the
    /// old ones, on ordinary sockets, finish what they have.
    pub(super) fn take_over(&mut self) -> Result<()> {
        let Some(helper) = &self.choice.helper else {
            return Ok(());
        };
        match helper.open(self.flags.datapath())? {
            Opened::Taken => return Ok(()),
            Opened::Datapath(datapath) => self.choice.datapath = Some(datapath),
        }
        self.choice.is_standby = false;
        self.choice.reason = None;
        let mut before = std::mem::take(&mut self.workers);
        if let Err(error) = self.start_workers() {
            self.workers = before;
            return Err(error);
        }
        self.denied.forget_applied();
        self.follow_ports();
        self.follow_node_or_log();
        let migration = Migration::begin();
        let grace = self.flags.grace();
        for worker in &mut before {
            worker.shut_down(grace);
        }
        tokio::task::spawn_blocking(move || {
            let died = before.into_iter().filter_map(|worker| worker.join().err());
            if died.count() > 0 {
                error!("a worker thread had panicked");
            }
            drop(migration);
        });
        self.log_serving();
        Ok(())
    }

    fn log_serving(&self) {
        let Run {
            http_port,
            https_port,
            ..
        } = self.flags;
        info!(
            http_port,
            https_port,
            workers = self.workers.len(),
            datapath = self.mode(),
            reason = self.choice.reason.as_deref().unwrap_or("-"),
            "serving"
        );
    }
}
