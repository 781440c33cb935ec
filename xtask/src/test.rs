//! Runs every test of the project and closes with one line that counts them.
//!
//! Tests are grouped by package and test binary: `ingress-core`, `ingress-tests/netns`, …. What
//! needs root is marked `#[ignore = "needs root: …"]`; as root it runs like any other, else it is
//! listed by name as skipped, with its reason.

mod binaries;
mod cell;
mod suite;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::suite::{Suite, build_suites, build_suites_for_kernels};
use crate::kernel::{self, Kernel};
use crate::shell::{cargo, is_root, root, say};
use crate::{compile, fuzz, setup};

#[derive(Args)]
pub(crate) struct Flags {
    /// Run only tests whose name or group contains one of these.
    names: Vec<String>,
    /// Run the tests of the programs and of the datapath on Debian's kernel, in an emulator.
    #[arg(long, value_name = "VERSION")]
    kernel: Option<Kernel>,
}

/// Runs the scenarios of the conformance suite, and shows each with what became of it.
pub(crate) fn conformance() -> Result<()> {
    if !is_root() {
        bail!("the conformance suite runs on a cluster of network namespaces: run it as root");
    }
    let flags = Flags {
        names: vec!["ingress-tests/conformance".to_owned()],
        kernel: None,
    };
    run_showing(&flags, Show::Everything)
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
        kernel: flags.kernel,
        ..Tally::default()
    };
    let start = Instant::now();
    let suites = match flags.kernel {
        Some(kernel) => tally.suites_for(kernel)?,
        None => build_suites()?,
    };
    tally.binaries = binaries::build(&suites, flags, is_root)?;
    for suite in &suites {
        if suite.is_wanted(&flags.names) {
            tally.run(suite, &flags.names, is_root)?;
        }
    }
    if flags.names.is_empty() && flags.kernel.is_none() {
        tally.run_doc_tests()?;
        tally.run_fuzz_targets()?;
        if is_root {
            tally.run_on_the_oldest_kernel(&suites)?;
        }
    }
    if is_root && flags.kernel.is_none() {
        if cell::is_wanted(&flags.names) {
            tally.run_cell();
        }
        tally.run_elsewhere(suites, &flags.names)?;
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
    /// The kernel that tests run on, if it is not this machine's.
    kernel: Option<Kernel>,
    passed: usize,
    failed: Vec<String>,
    skipped: BTreeMap<String, String>,
    /// Environment of the rig's tests.
    binaries: Vec<(&'static str, PathBuf)>,
}

impl Tally {
    /// The suites of what depends on the kernel, without what cannot run there.
    fn suites_for(&mut self, kernel: Kernel) -> Result<Vec<Suite>> {
        let mut suites = build_suites_for_kernels()?;
        for suite in &mut suites {
            let out = suite.take_out(kernel.lacking()).into_iter();
            let named = out.map(|test| (format!("{}: {test}", suite.group), NOT_THERE.to_owned()));
            self.skipped.extend(named);
        }
        Ok(suites)
    }

    fn run(&mut self, suite: &Suite, names: &[String], is_root: bool) -> Result<()> {
        let chosen = suite.chosen(names);
        let is_whole = names.is_empty() && self.kernel.is_none();
        let on = self
            .kernel
            .map_or_else(String::new, |kernel| format!(" on Linux {}", kernel.name()));
        say(&format!("==> {}: {} tests{on}", suite.group, chosen.len()));
        let mut command = match self.kernel {
            Some(kernel) => kernel::command(kernel, &suite.executable)?,
            None => Command::new(&suite.executable),
        };
        command.current_dir(root());
        command.envs(self.binaries.iter().map(|(name, path)| (*name, path)));
        if is_whole {
            let aside = suite.elsewhere.iter();
            command.args(aside.flat_map(|test| ["--skip", test]));
        } else {
            command.args(chosen).arg("--exact");
        }
        command.args(is_root.then_some("--include-ignored"));
        if self.kernel.is_some() {
            command.args(["--test-threads", "1"]);
        } else if suite.is_rig() {
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

    /// One packet through each program, on the oldest kernel that is supported: its verifier refuses
    /// what newer ones take.
    fn run_on_the_oldest_kernel(&mut self, suites: &[Suite]) -> Result<()> {
        self.kernel = Some(Kernel::OLDEST);
        let names = ONE_PACKET_EACH.map(str::to_owned);
        let mut of_programs = suites
            .iter()
            .filter(|suite| suite.group == "ingress-tests/programs");
        let suite = of_programs.next().context("the programs have no tests")?;
        if suite.chosen(&names).len() != names.len() {
            bail!("not all of {names:?} are tests of the programs");
        }
        self.run(suite, &names, true)
    }

    /// Tests of devices that this machine's kernel may lack, on Debian 13's.
    fn run_elsewhere(&mut self, suites: Vec<Suite>, names: &[String]) -> Result<()> {
        let is_wanted = |suite: &Suite| !suite.chosen_elsewhere(names).is_empty();
        let wanted: Vec<_> = suites.into_iter().filter(is_wanted).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        // Optimised, as an emulator takes its time.
        let programs = compile::sluice_and_rig(compile::Rig::Fast)?;
        self.binaries
            .push(("SLUICE_BINARY", programs.join("sluice")));
        self.binaries
            .push(("SLUICE_ORIGIN", programs.join("sluice-origin")));
        self.kernel = Some(Kernel::V6_12);
        for mut suite in wanted {
            suite.tests = std::mem::take(&mut suite.elsewhere);
            self.run(&suite, names, true)?;
        }
        Ok(())
    }

    /// The cost of a packet's path, held to a bound.
    fn run_cell(&mut self) {
        match cell::run() {
            Ok(()) => self.passed += 1,
            Err(error) => {
                say(&format!("    {error:#}"));
                self.failed.push(cell::NAME.to_owned());
            }
        }
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

/// Tests of guard, steer, `return_path` and dispatch.
const ONE_PACKET_EACH: [&str; 4] = [
    "guard::malformed_tcp_to_a_frontend_is_dropped",
    "steer::a_new_connection_to_a_frontend_is_steered",
    "return_path::an_answer_goes_to_its_next_hop_one_hop_older",
    "dispatch::a_connection_to_a_port_of_ours_is_given_to_the_worker",
];
const NOT_THERE: &str = "an emulator is too slow for it, or the kernel lacks what it tests";
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
