//! A container's process, waited for without a thread.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::unix::AsyncFd;

/// A process; killed when this is dropped.
#[derive(Debug)]
pub(super) struct Task {
    child: Child,
    pidfd: AsyncFd<OwnedFd>,
}

impl Task {
    /// Starts a program that writes to the end of a log.
    pub(super) fn spawn(mut command: Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(log);
        let file = file.with_context(|| format!("failed to open {}", log.display()))?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command
            .spawn()
            .with_context(|| format!("failed to start {command:?}"))?;
        let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let pidfd = pidfd_open(id.context("no process id")?, PidfdFlags::empty())?;
        Ok(Self {
            child,
            // SAFETY: the descriptor is owned by what is registered, and never exchanged.
            pidfd: unsafe { AsyncFd::register(pidfd) }?,
        })
    }

    /// Its process id.
    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end and gives its exit code; 128 and the signal if one ended it.
    pub(super) async fn ended(&mut self) -> Result<i32> {
        use std::os::unix::process::ExitStatusExt as _;
        drop(self.pidfd.readable().await?);
        let status = self.child.wait()?;
        let of_signal = || status.signal().map(|signal| 128 + signal);
        Ok(status.code().or_else(of_signal).unwrap_or(-1))
    }

    /// Asks it to end, or ends it.
    pub(super) fn signal(&self, signal: Signal) {
        let _ = pidfd_send_signal(self.pidfd.get_ref(), signal);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
