//! What an intruder can do who runs code in the daemon: the executable plays one.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

#[test]
#[ignore = "needs root: otherwise the kernel refuses anyway"]
fn an_intruder_in_the_daemon_gets_none_of_its_helpers_privileges() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("token");
    fs::write(&secret, "secret").unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_sluice"))
        .arg("intruder")
        .arg("--secret")
        .arg(&secret)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let outcomes: BTreeMap<String, BTreeMap<String, String>> =
        serde_json::from_slice(&output.stdout).unwrap();
    for (thread, attempts) in [("process", 11), ("worker", 14)] {
        let outcomes = &outcomes[thread];
        assert_eq!(outcomes.len(), attempts, "{outcomes:?}");
        for (attempt, outcome) in outcomes {
            // EPERM and EACCES.
            let is_refused =
                outcome.contains("not permitted") || outcome.contains("Permission denied");
            assert!(is_refused, "{thread}: {attempt}: {outcome}");
        }
    }
}
