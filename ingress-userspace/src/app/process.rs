//! What the process has of the machine: its run directory, and its file descriptors.

use std::fs::{self, File};
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// One daemon for each run directory: two would fight over the same names.
pub(super) fn lock(run_dir: &Path) -> Result<File> {
    fs::create_dir_all(run_dir)
        .with_context(|| format!("failed to make `{}` (see --run-dir)", run_dir.display()))?;
    let path = run_dir.join("lock");
    let file =
        File::create(&path).with_context(|| format!("failed to open `{}`", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another sluice runs with the run directory `{}`",
            run_dir.display()
        )
    })?;
    Ok(file)
}

/// Allows the process as many file descriptors as it may allow itself. A container is often given
/// 1,024 of some 500,000 (systemd's default), which an ingress has used up with 500 connections.
pub(super) fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        warn!(%error, "the number of file descriptors stays as it was");
    }
}

/// File descriptors that the process may have.
pub(super) fn descriptors() -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_may_have_as_many_descriptors_as_it_can() {
        let before = getrlimit(Resource::Nofile);
        let most = before.maximum.unwrap();
        let fewer = Rlimit {
            current: Some(most - 1),
            ..before
        };
        setrlimit(Resource::Nofile, fewer).unwrap();
        raise_descriptors();
        assert_eq!(getrlimit(Resource::Nofile).current, Some(most));
        assert_eq!(u64::from(descriptors()), most);
    }
}
