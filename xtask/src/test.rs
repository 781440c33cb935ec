//! Runs every test of the project and closes with one line that counts them.
//!
//! Tests are grouped by package and test binary: `ingress-core`, `ingress-tests/netns`, …. What
//! needs root is marked `#[ignore = "needs root: …"]`; as root it runs like any other, else it is
//! listed by name as skipped, with its reason.

mod suite;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::suite::{Suite, build_suites};
use crate::shell::{cargo, is_root, root, say};
use crate::{assets, compile, fuzz, image, setup};

#[derive(Args)]
pub(crate) struct Flags {
    /// Run only tests whose name or group contains one of these.
    names: Vec<String>,
}

/// Runs the scenarios of the conformance suite, and shows each with what became of it.
pub(crate) fn conformance() -> Result<()> {
    if !is_root() {
        bail!("the conformance suite runs on a cluster of network namespaces: run it as root");
    }
    let names = vec!["ingress-tests/conformance".to_owned()];
    run_showing(&Flags { names }, Show::Everything)
}

/// Sets up, builds, runs, counts; an error if any test failed.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    run_showing(flags, Show::Failures)
}

fn run_showing(flags: &Flags, show: Show) -> Result<()> {
    let is_root = is_root();
    setup::run(if is_root {
        setup::Scope::Rig
    } else {
        setup::Scope::Build
    })?;
    let mut tally = Tally {
        show,
        ..Tally::default()
    };
    let start = Instant::now();
    let suites = build_suites()?;
    let is_rig_wanted = |suite: &Suite| suite.is_rig() && suite.is_wanted(&flags.names);
    if suites.iter().any(is_rig_wanted) {
        let programs = compile::sluice_and_rig(compile::Rig::Dev)?;
        tally.binaries = vec![
            ("SLUICE_BINARY", programs.join("sluice")),
            ("SLUICE_ORIGIN", programs.join("sluice-origin")),
        ];
    }
    let is_cluster_wanted = |suite: &Suite| suite.is_cluster() && suite.is_wanted(&flags.names);
    if is_root && suites.iter().any(is_cluster_wanted) {
        tally
            .binaries
            .push(("SLUICE_CLUSTER_BIN", assets::ensure()?));
    }
    let is_deploy_wanted = |suite: &Suite| suite.is_deploy() && suite.is_wanted(&flags.names);
    if suites.iter().any(is_deploy_wanted) {
        let sluice = compile::target().join("debug/sluice");
        tally
            .binaries
            .push(("SLUICE_IMAGE", image::of_tests(&sluice)?));
        if is_root {
            tally.binaries.push(("SLUICE_HELM", assets::helm()?));
            tally.binaries.push(("SLUICE_SECCOMP", assets::seccomp()?));
        }
    }
    let is_host_wanted = |suite: &Suite| suite.is_host() && suite.is_wanted(&flags.names);
    if suites.iter().any(is_host_wanted) {
        let oauth2_proxy = assets::oauth2_proxy()?;
        tally.binaries.push(("SLUICE_CLIENTS", assets::clients()?));
        tally.binaries.push(("SLUICE_OAUTH2_PROXY", oauth2_proxy));
    }
    let is_acme = |suite: &Suite| suite.is_host() || (is_root && suite.is_control());
    let is_acme_wanted = |suite: &Suite| is_acme(suite) && suite.is_wanted(&flags.names);
    if suites.iter().any(is_acme_wanted) {
        tally.binaries.push(("SLUICE_PEBBLE", assets::pebble()?));
    }
    let is_counting = |suite: &Suite| suite.is_counting() && suite.is_wanted(&flags.names);
    if is_root && suites.iter().any(is_counting) {
        let sluice = compile::sluice_optimised()?;
        tally.binaries.push(("SLUICE_FAST_BINARY", sluice));
        tally.binaries.push(("SLUICE_WORK", compile::work()?));
    }
    for suite in &suites {
        if suite.is_wanted(&flags.names) {
            tally.run(suite, &flags.names, is_root)?;
        }
    }
    if flags.names.is_empty() {
        tally.run_doc_tests()?;
        tally.run_fuzz_targets()?;
    }
    tally.close(start.elapsed().as_secs())
}

/// What is shown of what tests print.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Show {
    #[default]
    Failures,
    Everything,
}

#[derive(Default)]
struct Tally {
    show: Show,
    passed: usize,
    failed: Vec<String>,
    skipped: BTreeMap<String, String>,
    /// Environment of the rig's tests.
    binaries: Vec<(&'static str, PathBuf)>,
}

impl Tally {
    fn run(&mut self, suite: &Suite, names: &[String], is_root: bool) -> Result<()> {
        let chosen = if names.is_empty() {
            Vec::new()
        } else {
            suite.chosen(names)
        };
        let count = if names.is_empty() {
            suite.tests.len()
        } else {
            chosen.len()
        };
        say(&format!("==> {}: {count} tests", suite.group));
        let mut command = Command::new(&suite.executable);
        command.current_dir(root());
        command.envs(self.binaries.iter().map(|(name, path)| (*name, path)));
        command
            .args(chosen)
            .args((!names.is_empty()).then_some("--exact"));
        command.args(is_root.then_some("--include-ignored"));
        if suite.is_rig() {
            // Two cores: more nodes at once would only wait for each other.
            command.args(["--test-threads", "2"]);
        }
        self.read(&suite.group, command)
    }

    fn run_doc_tests(&mut self) -> Result<()> {
        let mut command = cargo();
        command.args([
            "test",
            "--doc",
            "--workspace",
            "--exclude",
            "ingress-ebpf",
            "--quiet",
        ]);
        say("==> documentation examples");
        command.args(["--", "--format", "pretty"]);
        self.read("doc", command)
    }

    /// Each for a moment: that they can be built and find nothing at once.
    fn run_fuzz_targets(&mut self) -> Result<()> {
        for target in fuzz::build()? {
            let name = format!("fuzz: {}", target.name);
            match target.run(FUZZ_SECONDS) {
                Ok(()) => self.passed += 1,
                Err(error) => {
                    say(&format!("    {error:#}"));
                    self.failed.push(name);
                }
            }
        }
        Ok(())
    }

    /// Runs a test binary, shows what it says, and counts its verdicts.
    fn read(&mut self, group: &str, mut command: Command) -> Result<()> {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .context("failed to start tests")?;
        let stdout = child.stdout.take().context("tests have no output")?;
        let failures = self.failed.len();
        for line in BufReader::new(stdout).lines() {
            let line = line.context("failed to read the output of tests")?;
            self.count(group, &line);
            let is_chatter =
                line.is_empty() || line.ends_with(" ... ok") || line.starts_with("running ");
            if !is_chatter || self.show == Show::Everything {
                say(&format!("    {line}"));
            }
        }
        let status = child.wait()?;
        if !status.success() && self.failed.len() == failures {
            self.failed.push(format!("{group}: ended with {status}"));
        }
        Ok(())
    }

    fn count(&mut self, group: &str, line: &str) {
        let Some((name, verdict)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        else {
            return;
        };
        let name = format!("{group}: {name}");
        if verdict == "ok" {
            self.passed += 1;
        } else if let Some(reason) = verdict.strip_prefix("ignored") {
            self.skipped
                .insert(name, reason.trim_start_matches([',', ' ']).to_owned());
        } else {
            self.failed.push(name);
        }
    }

    fn close(self, seconds: u64) -> Result<()> {
        for (name, reason) in &self.skipped {
            say(&format!("skipped {name} ({reason})"));
        }
        for name in &self.failed {
            say(&format!("FAILED  {name}"));
        }
        let (passed, failed, skipped) = (self.passed, self.failed.len(), self.skipped.len());
        say(&format!("    {seconds} s"));
        #[expect(clippy::print_stdout, reason = "the result")]
        {
            println!("{passed} passed, {failed} failed, {skipped} skipped");
        }
        if failed > 0 {
            bail!("{failed} tests failed");
        }
        if passed + skipped == 0 {
            bail!("no test matches");
        }
        Ok(())
    }
}

/// Of each fuzz target; `cargo xtask fuzz` has more.
const FUZZ_SECONDS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(lines: &[&str]) -> Tally {
        let mut tally = Tally::default();
        for line in lines {
            tally.count("group", line);
        }
        tally
    }

    #[test]
    fn verdicts_are_counted() {
        let tally = tally(&[
            "running 3 tests",
            "test a::b ... ok",
            "test c ... FAILED",
            "test d ... ignored, needs root: namespaces",
            "test result: FAILED. 1 passed; 1 failed; 1 ignored",
        ]);
        assert_eq!(tally.passed, 1);
        assert_eq!(tally.failed, ["group: c"]);
        assert_eq!(tally.skipped["group: d"], "needs root: namespaces");
    }

    #[test]
    fn a_failure_makes_the_whole_run_fail() {
        assert!(tally(&["test a ... ok"]).close(0).is_ok());
        assert!(
            tally(&["test a ... ok", "test b ... FAILED"])
                .close(0)
                .is_err()
        );
        assert!(
            tally(&[]).close(0).is_err(),
            "nothing that matches is no success"
        );
    }
}
