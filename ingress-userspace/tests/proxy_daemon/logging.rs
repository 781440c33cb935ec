//! A log that nobody reads holds nothing up.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::Command;

use crate::daemon::{Daemon, Place, origin, wait_for};

#[test]
fn standard_error_that_nobody_reads_holds_up_neither_changes_nor_probes() {
    let place = Place::new(origin());
    let pipe = place.directory.path().join("a.log");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    // An end to read from, or the daemon's could not be opened; it is never read.
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(libc::O_NONBLOCK);
    let _unread = options.open(&pipe).unwrap();
    // Lines of 500 requests at this level are more than a pipe takes, 64 KiB.
    let daemon = place.start("a", &["--log=trace"]);
    for _ in 0..500 {
        assert_eq!(daemon.get(daemon.http, "/").status, 200);
    }
    place.change(|manifest| manifest.replace("one.test", "two.test"));
    wait_for("the change", || {
        daemon.get_host(daemon.http, "two.test", "/").status == 200
    });
    let healthy = Daemon::try_get(daemon.admin, "/healthz");
    assert_eq!(healthy.map(|answer| answer.status), Some(200));
}
