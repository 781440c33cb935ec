//! The one core: keeps a bench on it and reads how busy it was, and with whom.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};

use ingress_tests::host::Host;

/// The core that everything runs on, and the group of processes whose time counts.
#[derive(Debug)]
pub(super) struct Core {
    number: usize,
    group: PathBuf,
}

/// How the core was used since a moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    /// Seconds of work.
    pub(super) busy: f64,
    /// Share of the core, from 0 to 1, that was neither ours nor the kernel's network work for us.
    others: f64,
}

impl Usage {
    /// Whether the run counts: others had little of the core.
    pub(super) fn counts(&self) -> bool {
        self.others <= OTHERS_MAX
    }
}

/// Processes whose time is counted by themselves too.
#[derive(Debug)]
pub(super) struct Group(PathBuf);

impl Group {
    /// A command that will run on `host`, with all that it starts, in this group.
    pub(super) fn command(&self, host: &Host, program: impl AsRef<OsStr>) -> Command {
        let mut command = host.command("sh");
        command.args(["-c", "echo $$ > \"$0\" && exec \"$@\""]);
        command.arg(self.0.join("cgroup.procs")).arg(program);
        command
    }

    /// Seconds that they ran.
    pub(super) fn seconds(&self) -> Result<f64> {
        seconds_of(&self.0)
    }

    /// Bytes of memory that are theirs alone, and their shares of what they share.
    pub(super) fn memory(&self) -> Result<u64> {
        let members = fs::read_to_string(self.0.join("cgroup.procs"))?;
        let mut kib = 0;
        for member in members.lines() {
            let rollup = fs::read_to_string(format!("/proc/{member}/smaps_rollup"))?;
            let share = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
            let share = share.and_then(|share| share.split_whitespace().next());
            kib += share.context("no share of memory")?.parse::<u64>()?;
        }
        Ok(kib * 1024)
    }
}

impl Drop for Group {
    /// Ends who is left: nginx's workers outlive a master that is killed, and would go on taking
    /// their share of the next subject's connections.
    fn drop(&mut self) {
        let members = fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let members = members.lines().filter_map(|member| member.parse().ok());
        for member in members.filter_map(Pid::from_raw) {
            let _ = kill_process(member, Signal::KILL);
        }
        // There are members until the last of them is reaped.
        let end = Instant::now() + END_MAX;
        while fs::remove_dir(&self.0).is_err() && Instant::now() < end {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A moment.
#[derive(Debug)]
pub(super) struct Mark {
    at: Instant,
    idle: f64,
    ours: f64,
    softirq: f64,
}

impl Core {
    /// Puts this process, and so all that it will start, on the last core, with priority over
    /// other sessions.
    pub(super) fn take(name: &str) -> Result<Self> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let number = cores - 1;
        let mut cpus = CpuSet::new();
        cpus.set(number);
        sched_setaffinity(None, &cpus).context("failed to move to one core")?;
        // Plain nice has no effect between autogroups; where there are none, nothing is lost.
        let _ = fs::write("/proc/self/autogroup", "-19");
        let group = PathBuf::from("/sys/fs/cgroup/cpuacct").join(name);
        fs::create_dir_all(&group).context("failed to make a cpuacct cgroup")?;
        fs::write(group.join("cgroup.procs"), std::process::id().to_string())
            .context("failed to enter the cpuacct cgroup")?;
        Ok(Self { number, group })
    }

    /// A group of processes within ours.
    pub(super) fn group(&self, name: &str) -> Result<Group> {
        let group = self.group.join(name);
        fs::create_dir_all(&group).context("failed to make a cpuacct cgroup")?;
        Ok(Group(group))
    }

    /// Now.
    pub(super) fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            at: Instant::now(),
            idle: self.idle()?,
            ours: self.ours()?,
            softirq: self.softirq()?,
        })
    }

    /// What happened since.
    pub(super) fn since(&self, mark: &Mark) -> Result<Usage> {
        let elapsed = mark.at.elapsed().as_secs_f64();
        let busy = elapsed - (self.idle()? - mark.idle);
        let ours = self.ours()? - mark.ours;
        let softirq = self.softirq()? - mark.softirq;
        let others = ((busy - ours - softirq) / elapsed).max(0.0);
        Ok(Usage { busy, others })
    }

    /// Seconds that the core was idle. The kernel counts idle time exactly, work by ticks.
    fn idle(&self) -> Result<f64> {
        let stat = fs::read_to_string("/proc/stat")?;
        let name = format!("cpu{} ", self.number);
        let line = stat
            .lines()
            .find(|line| line.starts_with(&name))
            .context("no such core")?;
        let fields: Vec<f64> = line
            .split_whitespace()
            .skip(1)
            .flat_map(str::parse)
            .collect();
        // user nice system idle iowait
        Ok((fields[3] + fields[4]) / TICKS_A_SECOND)
    }

    /// Seconds that our processes ran.
    fn ours(&self) -> Result<f64> {
        seconds_of(&self.group)
    }

    /// Seconds that the core's softirq thread ran: packets that nobody's process was there for.
    fn softirq(&self) -> Result<f64> {
        let wanted = format!("ksoftirqd/{}", self.number);
        for entry in fs::read_dir("/proc")?.flatten() {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if comm.trim() != wanted {
                continue;
            }
            let schedstat = fs::read_to_string(entry.path().join("schedstat"))?;
            let nanoseconds = schedstat
                .split_whitespace()
                .next()
                .context("no schedstat")?;
            return Ok(nanoseconds.parse::<f64>()? / 1e9);
        }
        Ok(0.0)
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        let _ = fs::write(
            "/sys/fs/cgroup/cpuacct/cgroup.procs",
            std::process::id().to_string(),
        );
        let _ = fs::remove_dir(&self.group);
    }
}

fn seconds_of(group: &Path) -> Result<f64> {
    let usage = fs::read_to_string(group.join("cpuacct.usage"))?;
    Ok(usage.trim().parse::<f64>()? / 1e9)
}

/// For killed processes to be gone.
const END_MAX: Duration = Duration::from_secs(2);
/// Of one core, for a run to count.
const OTHERS_MAX: f64 = 0.15;
const TICKS_A_SECOND: f64 = 100.0;
