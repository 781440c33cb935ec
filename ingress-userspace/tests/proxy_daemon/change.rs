//! What an operator changes in a daemon that runs.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::daemon::{Daemon, Place, origin, wait_for};

fn readiness(daemon: &Daemon) -> u16 {
    daemon.get(daemon.admin, "/readyz").status
}

#[test]
fn a_daemon_that_is_drained_serves_and_says_that_it_is_not_ready() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    assert!(place.sluice(&["drain"]).status.success());
    assert_eq!(readiness(&daemon), 503);
    assert_eq!(daemon.get(daemon.http, "/").status, 200);
    assert_eq!(daemon.get(daemon.admin, "/healthz").status, 200);
    assert_eq!(place.sluice(&["ready"]).status.code(), Some(1));
    assert!(place.sluice(&["drain", "--undo"]).status.success());
    assert_eq!(readiness(&daemon), 200);
}

#[test]
fn the_log_filter_changes_while_the_daemon_runs() {
    let place = Place::new(origin());
    let daemon = place.start("a", &["--log=error"]);
    let refused = place.sluice(&["log-level", "a=b=c"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("a=b=c"), "{said}");
    assert!(place.sluice(&["log-level", "info"]).status.success());
    place.change(|manifest| manifest.replace("one.test", "two.test"));
    wait_for("the change to be logged", || {
        daemon.log().contains("configuration published")
    });
}

#[test]
fn changes_are_for_the_unix_socket_only() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    for path in ["/v1/drain", "/v1/log-level", "/v1/routes", "/v1/endpoints"] {
        assert_eq!(daemon.get(daemon.admin, path).status, 404, "{path}");
    }
    assert_eq!(readiness(&daemon), 200);
}

#[test]
fn a_watched_status_is_shown_again() {
    let place = Place::new(origin());
    let _daemon = place.start("a", &[]);
    let mut watching = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .args(["status", "--watch"])
        .arg(format!("--run-dir={}", place.run_dir("a")))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    thread::sleep(Duration::from_millis(2500));
    watching.kill().unwrap();
    let output = watching.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.matches("generation").count() >= 2, "{text}");
}
