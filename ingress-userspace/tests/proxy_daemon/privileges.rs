//! The privileges of the daemon's threads, as the kernel reports them.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::daemon::{Daemon, Place, origin};

#[test]
#[ignore = "needs root: others have no privileges to give up"]
fn no_thread_of_the_daemon_keeps_a_privilege_that_it_does_not_need() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--dashboard-address=127.0.0.1:0"]);
    // A thread gives its privileges up itself, as the first thing that it does.
    let deadline = Instant::now() + START_MAX;
    let mut found = look(&daemon);
    while !found.faults.is_empty() && Instant::now() < deadline {
        found = look(&daemon);
    }
    assert_eq!(found.faults, [""; 0]);
    assert_eq!((found.workers, found.dashboards), (1, 1));
}

/// The threads of the daemon, and what is wrong with them.
#[derive(Default)]
struct Found {
    workers: usize,
    dashboards: usize,
    faults: Vec<String>,
}

fn look(daemon: &Daemon) -> Found {
    let mut found = Found::default();
    for task in fs::read_dir(format!("/proc/{}/task", daemon.process.id())).unwrap() {
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task.unwrap().path().join("status")) else {
            continue;
        };
        let fields: BTreeMap<_, _> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .collect();
        let name = fields["Name"];
        let is_worker = name.starts_with("sluice-worker");
        found.workers += usize::from(is_worker);
        found.dashboards += usize::from(name == "dashboard");
        let parses_input = is_worker || name == "dashboard";
        let allowed = if parses_input { 0 } else { KEPT };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let held = u64::from_str_radix(fields[set], 16).unwrap();
            if held & !allowed != 0 {
                found.faults.push(format!("{name}: {set} {held:x}"));
            }
        }
        // Seccomp 2: a filter of system calls (proc_pid_status(5)).
        for (field, wanted) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
            if fields[field] != wanted {
                found
                    .faults
                    .push(format!("{name}: {field} {}", fields[field]));
            }
        }
    }
    found
}

/// A busy machine starts threads late.
const START_MAX: Duration = Duration::from_secs(5);

/// `CAP_DAC_READ_SEARCH` and `CAP_NET_BIND_SERVICE`.
const KEPT: u64 = 1 << 2 | 1 << 10;
