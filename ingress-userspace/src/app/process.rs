//! The resources of the process: its run directory, its file descriptors and its memory.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::{Context as _, Result};
use procfs::WithCurrentSystemInfo as _;
use procfs::process::Process;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

use crate::settings::Machine;

/// One daemon for each run directory: two would fight over the same names.
pub(super) fn lock(run_dir: &Path) -> Result<File> {
    own_directory(run_dir)
        .with_context(|| format!("failed to make `{}` (see --run-dir)", run_dir.display()))?;
    let path = run_dir.join("lock");
    let mut options = OpenOptions::new();
    // Others may write to the directory above it: a link of theirs would name another file.
    let options = options.write(true).create(true).truncate(false);
    let options = options.custom_flags(libc::O_NOFOLLOW);
    let file = (options.mode(0o600).open(&path))
        .with_context(|| format!("failed to open `{}`", path.display()))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!(
            "another sluice runs with the run directory `{}`",
            run_dir.display()
        )
    })?;
    Ok(file)
}

/// Makes a directory, or takes one that this user has: whoever else had it could put other files in
/// place of ours.
fn own_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let found = fs::symlink_metadata(path)?;
    let is_own = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_dir() && is_own {
        return Ok(());
    }
    let problem = "it is not a directory of the user that runs this process";
    Err(io::Error::new(io::ErrorKind::PermissionDenied, problem))
}

/// CPU time in seconds and memory in bytes of this process; `None` where `/proc` cannot be read.
pub(super) fn usage() -> Option<(f64, u64)> {
    let stat = Process::myself().ok()?.stat().ok()?;
    #[expect(
        clippy::cast_precision_loss,
        reason = "ticks of CPU time are far below 2^52"
    )]
    let cpu_seconds = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
    Some((cpu_seconds, stat.rss_bytes().get()))
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
        warn!(%error, "failed to raise the limit of file descriptors");
    }
}

/// The limits of file descriptors and memory for this process.
pub(super) fn machine() -> Machine {
    Machine {
        descriptors: descriptors(),
        memory: memory(Path::new("/")),
    }
}

fn descriptors() -> u32 {
    let limit = getrlimit(Resource::Nofile).current;
    limit.map_or(u32::MAX, |limit| u32::try_from(limit).unwrap_or(u32::MAX))
}

/// The least limit of the process's cgroups (version 2 or 1), else the machine's memory.
fn memory(root: &Path) -> u64 {
    let read = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let own = read(&root.join("proc/self/cgroup"));
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let unified = root.join("sys/fs/cgroup");
    let directory = unified.join(own.unwrap_or_default());
    let directories = directory.ancestors();
    let within = directories.take_while(|directory| directory.starts_with(&unified));
    let limits = within.map(|directory| read(&directory.join("memory.max")));
    let first = read(&unified.join("memory/memory.limit_in_bytes"));
    let limits = limits.chain([first]);
    let machine = machine_memory(&read(&root.join("proc/meminfo")));
    let limits = limits.filter_map(|limit| limit.trim().parse().ok());
    limits.chain([machine]).min().unwrap_or(machine)
}

/// `MemTotal` of `/proc/meminfo` in bytes.
fn machine_memory(text: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let number = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    number.map_or(u64::MAX, |kib: u64| kib.saturating_mul(1024))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_no_link_of_somebody_else() {
        let place = tempfile::tempdir().unwrap();
        let run_dir = place.path().join("run");
        drop(lock(&run_dir).unwrap());
        let target = place.path().join("target");
        fs::write(&target, "precious").unwrap();
        fs::remove_file(run_dir.join("lock")).unwrap();
        std::os::unix::fs::symlink(&target, run_dir.join("lock")).unwrap();
        assert!(lock(&run_dir).is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&run_dir, &link).unwrap();
        assert!(lock(&link).is_err());
    }

    #[test]
    fn memory_is_bounded_by_the_least_limit_of_all_cgroups() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(
            "proc/meminfo",
            "MemTotal:        1048576 kB\nMemFree: 1 kB\n",
        );
        assert_eq!(memory(root.path()), 1 << 30);
        write("proc/self/cgroup", "0::/pods/one\n");
        write("sys/fs/cgroup/pods/one/memory.max", "max\n");
        write("sys/fs/cgroup/pods/memory.max", "1000000\n");
        assert_eq!(memory(root.path()), 1_000_000);
        write("sys/fs/cgroup/memory/memory.limit_in_bytes", "9000\n");
        assert_eq!(memory(root.path()), 9000);
    }

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
