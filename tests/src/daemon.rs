//! The daemon under test: `sluice run` on a host of the rig.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::host::{self, Host, Process};
use crate::rig::{Rig, wait_until};

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct Daemon {
    sluice: PathBuf,
    run_dir: PathBuf,
    log: PathBuf,
    arguments: Vec<String>,
}

/// A daemon that runs. Dropping it kills it without notice.
#[derive(Debug)]
pub struct Running {
    daemon: Daemon,
    process: Process,
}

impl Daemon {
    /// A daemon of this rig, named so that several can run side by side.
    pub fn new(rig: &Rig, name: &str, manifests: &Path) -> Self {
        let prefix = &rig.prefix;
        let run_dir = rig.path(name);
        let arguments = vec![
            "run".into(),
            format!("--manifests={}", manifests.display()),
            format!("--run-dir={}", run_dir.display()),
            format!(
                "--bpffs={}",
                host::bpffs_directory(prefix).join(name).display()
            ),
            format!("--ingress-netns={prefix}-in-{name}"),
            "--shutdown-grace-period=5".into(),
        ];
        let log = rig.path(&format!("{name}.log"));
        Self {
            sluice: rig.options.sluice.clone(),
            run_dir,
            log,
            arguments,
        }
    }

    /// The same with this `--flag=value`, in place of an earlier value.
    #[must_use]
    pub fn with(mut self, argument: &str) -> Self {
        let flag = argument.split('=').next().unwrap_or(argument);
        self.arguments
            .retain(|known| known.split('=').next() != Some(flag));
        self.arguments.push(argument.to_owned());
        self
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// What it is started with.
    pub fn arguments(&self) -> &[String] {
        &self.arguments
    }

    /// Starts it on `host` and waits until it serves.
    pub fn start(&self, host: &Host) -> Result<Running> {
        let mut command = host.command(&self.sluice);
        command
            .args(&self.arguments)
            .env("SLUICE_LOG", "info,ingress_userspace=debug");
        let process = Process::spawn(command, &self.log)?;
        let mut running = Running {
            daemon: self.clone(),
            process,
        };
        let served = wait_until("the daemon to serve", || {
            if let Some(status) = running.process.ended()? {
                bail!("the daemon ended with {status}");
            }
            // Another daemon may answer at the same place; it is not the one that was started.
            let id = running.process.id();
            Ok(running
                .status()
                .is_ok_and(|status| status["pid"] == id && status["generation"] != 0))
        });
        served.with_context(|| format!("log of the daemon:\n{}", self.log()))?;
        Ok(running)
    }
}

impl Running {
    /// Its answer to `sluice status --output json`.
    pub fn status(&self) -> Result<Value> {
        let output = Command::new(&self.daemon.sluice)
            .args(["status", "--output=json"])
            .arg(format!("--run-dir={}", self.daemon.run_dir.display()))
            .output()?;
        if !output.status.success() {
            bail!("{}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// The generation that every worker serves.
    pub fn generation(&self) -> Result<u64> {
        let status = self.status()?;
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        let generations = workers
            .iter()
            .filter_map(|worker| worker["generation"].as_u64());
        generations.min().context("the daemon has no workers")
    }

    /// Waits until all workers serve a generation after `generation`.
    pub fn wait_for_generation_after(&self, generation: u64) -> Result<u64> {
        wait_until(
            "the next generation",
            || Ok(self.generation()? > generation),
        )?;
        self.generation()
    }

    /// Packets that a program counted for a reason.
    pub fn packets(&self, program: &str, reason: &str) -> Result<u64> {
        let status = self.status()?;
        let counters = status["datapath"]["counters"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let cell = counters
            .iter()
            .find(|count| count["program"] == program && count["reason"] == reason);
        Ok(cell
            .and_then(|count| count["packets"].as_u64())
            .unwrap_or(0))
    }

    /// Requests that came through a datapath, `netns` or `host`, of all workers.
    pub fn requests(&self, datapath: &str) -> Result<u64> {
        let status = self.status()?;
        let workers = status["workers"].as_array().cloned().unwrap_or_default();
        Ok(workers
            .iter()
            .filter_map(|worker| worker[datapath]["requests"].as_u64())
            .sum())
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends SIGTERM and waits for a clean end.
    pub fn stop(mut self) -> Result<()> {
        host::run(Command::new("kill").args(["-TERM", &self.process.id().to_string()]))?;
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the daemon ended with {status}:\n{}", self.daemon.log());
        }
        Ok(())
    }

    /// Kills it without notice.
    pub fn kill(self) {
        drop(self);
    }
}
