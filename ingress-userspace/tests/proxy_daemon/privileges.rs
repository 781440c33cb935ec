//! The privileges of the daemon's threads, as the kernel reports them.

use std::collections::BTreeMap;
use std::fs;

use crate::daemon::{Place, origin};

#[test]
#[ignore = "needs root: others have no privileges to give up"]
fn no_thread_of_the_daemon_keeps_a_privilege_that_it_does_not_need() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--dashboard-address=127.0.0.1:0"]);
    let mut workers = 0;
    let mut dashboards = 0;
    for task in fs::read_dir(format!("/proc/{}/task", daemon.process.id())).unwrap() {
        let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
        let fields: BTreeMap<_, _> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .collect();
        let name = fields["Name"];
        let is_worker = name.starts_with("sluice-worker");
        workers += usize::from(is_worker);
        dashboards += usize::from(name == "dashboard");
        let parses_input = is_worker || name == "dashboard";
        let allowed = if parses_input { 0 } else { KEPT };
        for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            let held = u64::from_str_radix(fields[set], 16).unwrap();
            assert_eq!(held & !allowed, 0, "{name}: {set} {held:x}");
        }
        assert_eq!(fields["NoNewPrivs"], "1", "{name}");
        // 2: a filter of system calls (proc_pid_status(5)).
        assert_eq!(fields["Seccomp"], "2", "{name}");
    }
    assert_eq!((workers, dashboards), (1, 1));
}

/// `CAP_DAC_READ_SEARCH` and `CAP_NET_BIND_SERVICE`.
const KEPT: u64 = 1 << 2 | 1 << 10;
