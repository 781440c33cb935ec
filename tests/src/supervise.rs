//! A parent that cleans up: the work is done by a child process, and whatever its end was, Ctrl-C
//! and `kill -9` among them, nothing that it made stays behind.

use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::host;

/// Runs this program again with the same arguments and `--prefix PREFIX`, waits for its end, also
/// through Ctrl-C, and removes every host and file of that prefix.
pub fn supervise(prefix: &str) -> Result<ExitCode> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(run_child(prefix));
    host::remove_all(prefix);
    ended
}

/// Returns when the person has seen enough.
pub fn wait_for_signal() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}

async fn run_child(prefix: &str) -> Result<ExitCode> {
    // From here on Ctrl-C and SIGTERM don't end this process: the child gets them too, or is told.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .args(["--prefix", prefix])
        .spawn()
        .context("failed to start the child")?;
    let id = child.id();
    let mut ended = tokio::task::spawn_blocking(move || child.wait());
    let status = loop {
        tokio::select! {
            status = &mut ended => break status??,
            _ = terminate.recv() => tell(id),
            _ = interrupt.recv() => tell(id),
        }
    };
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tell(id: u32) {
    let _ = Command::new("kill")
        .args(["-TERM", &id.to_string()])
        .status();
}
