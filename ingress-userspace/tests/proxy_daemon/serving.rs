//! `sluice ready --serving`: the word that programs act upon which announce an address of the node.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::daemon::{Place, origin};

/// The exit status and the sentence.
fn ask(place: &Place, flags: &[&str]) -> (Option<i32>, String) {
    let output = place.sluice(&[&["ready", "--serving"], flags].concat());
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code(), said)
}

#[test]
fn announcers_hear_yes_from_a_daemon_that_serves_and_no_from_one_that_drains() {
    let place = Place::new(origin());
    let mut daemon = place.start("a", &["--shutdown-delay=30"]);
    let (code, said) = ask(&place, &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("yes: generation 1 is served by 1 workers"),
        "{said}"
    );
    let (code, said) = ask(&place, &["--require-datapath"]);
    assert_eq!(code, Some(1));
    assert_eq!(
        said,
        "no: the eBPF datapath is off: switched off by --datapath host\n"
    );
    assert!(place.sluice(&["drain"]).status.success());
    assert_eq!(
        ask(&place, &[]),
        (Some(1), "no: the daemon is draining\n".to_owned())
    );
    assert!(place.sluice(&["drain", "--undo"]).status.success());
    assert_eq!(ask(&place, &[]).0, Some(0));
    daemon.terminate();
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&place, &[]).0 == Some(0) {
        assert!(Instant::now() < deadline, "SIGTERM begins the drain");
    }
    assert_eq!(
        daemon.get(daemon.http, "/").status,
        200,
        "and requests are served"
    );
    daemon.terminate();
    assert!(daemon.wait().success(), "{}", daemon.log());
    let (code, said) = ask(&place, &[]);
    assert_eq!(code, Some(1));
    assert!(
        said.starts_with("no: failed to reach a daemon at"),
        "{said}"
    );
}

#[test]
fn announcers_hear_no_in_time_from_a_daemon_that_is_stuck() {
    let place = Place::new(origin());
    let daemon = place.start("a", &[]);
    let signal = |name: &str| {
        let id = daemon.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &id])
                .status()
                .unwrap()
                .success()
        );
    };
    signal("-STOP");
    let asked = Instant::now();
    let answer = ask(&place, &[]);
    let took = asked.elapsed();
    signal("-CONT");
    assert_eq!(
        answer,
        (
            Some(1),
            "no: the daemon does not answer within 1 s\n".to_owned()
        )
    );
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert_eq!(ask(&place, &[]).0, Some(0));
}
