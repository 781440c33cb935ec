//! The test binaries: how they are built, and which tests they have.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};

use crate::compile::output;
use crate::shell::{cargo, say};

/// One test binary.
pub(super) struct Suite {
    pub(super) group: String,
    pub(super) executable: PathBuf,
    /// The tests of the binary that run here.
    pub(super) tests: Vec<String>,
    /// Tests that run in an emulator, on a kernel with the devices that they need.
    pub(super) elsewhere: Vec<String>,
}

impl Suite {
    pub(super) fn is_rig(&self) -> bool {
        self.group.starts_with("ingress-tests")
    }

    /// Whether it needs the programs of a control plane.
    pub(super) fn is_cluster(&self) -> bool {
        CLUSTER_SUITES.contains(&self.group.as_str())
    }

    /// Removes the tests that an emulator is too slow for, and those of features that the kernel lacks.
    /// Returns their names.
    pub(super) fn take_out(&mut self, lacking: &[&str]) -> Vec<String> {
        let is_out = |test: &String| {
            let mut parts = TOO_MUCH_FOR_AN_EMULATOR.iter().chain(lacking);
            parts.any(|part| test.contains(part))
        };
        let (out, rest) = self.tests.drain(..).partition(is_out);
        self.tests = rest;
        out
    }

    /// Sets the tests aside whose devices not every kernel has.
    fn set_aside(&mut self) {
        let is_aside = |test: &String| {
            DEVICES_OF_SOME_KERNELS
                .iter()
                .any(|part| test.contains(part))
        };
        (self.elsewhere, self.tests) = self.tests.drain(..).partition(is_aside);
    }

    /// The tests for the emulator that the names select.
    pub(super) fn chosen_elsewhere(&self, names: &[String]) -> Vec<&str> {
        choose(&self.group, &self.elsewhere, names)
    }

    pub(super) fn is_counting(&self) -> bool {
        self.group == "ingress-tests/instructions"
    }

    pub(super) fn is_deploy(&self) -> bool {
        self.group == "ingress-tests/deploy"
    }

    pub(super) fn is_life(&self) -> bool {
        self.group == "ingress-tests/cluster"
    }

    pub(super) fn is_control(&self) -> bool {
        self.group == "ingress-tests/control"
    }

    pub(super) fn is_dashboard(&self) -> bool {
        self.group == "ingress-tests/dashboard"
    }

    pub(super) fn is_host(&self) -> bool {
        self.group == "ingress-tests/host"
    }

    pub(super) fn is_wanted(&self, names: &[String]) -> bool {
        !self.chosen(names).is_empty()
    }

    /// The tests that are asked for: all of them when the group is, or when nothing is named.
    pub(super) fn chosen(&self, names: &[String]) -> Vec<&str> {
        choose(&self.group, &self.tests, names)
    }
}

fn choose<'a>(group: &str, tests: &'a [String], names: &[String]) -> Vec<&'a str> {
    let group_is_asked_for =
        names.is_empty() || names.iter().any(|name| group.contains(name.as_str()));
    let is_asked_for = |test: &str| names.iter().any(|name| test.contains(name.as_str()));
    let tests = tests.iter().map(String::as_str);
    tests
        .filter(|test| group_is_asked_for || is_asked_for(test))
        .collect()
}

pub(super) fn build_suites() -> Result<Vec<Suite>> {
    let mut workspace = cargo();
    workspace.args([
        "test",
        "--no-run",
        "--workspace",
        "--exclude",
        "ingress-ebpf",
    ]);
    let mut ebpf = cargo();
    ebpf.args(["test", "--no-run", "-p", "ingress-ebpf", "--lib"]);
    let mut suites = Vec::new();
    for (what, command) in [
        ("build the tests", workspace),
        ("build the eBPF library's tests", ebpf),
    ] {
        suites.extend(build_and_list(what, command)?);
    }
    suites.iter_mut().for_each(Suite::set_aside);
    Ok(suites)
}

/// Those that depend on the kernel.
pub(super) fn build_suites_for_kernels() -> Result<Vec<Suite>> {
    let mut build = cargo();
    build.args(["test", "--no-run", "-p", "ingress-tests"]);
    build.args(["--test", "netns", "--test", "programs"]);
    build_and_list("build the tests", build)
}

fn build_and_list(what: &str, mut command: Command) -> Result<Vec<Suite>> {
    say(&format!("==> {what}"));
    command.args(["--message-format", "json-render-diagnostics"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to start cargo")?;
    // In a thread of its own, as this one reads the messages: an unread pipe blocks cargo.
    let stderr = child.stderr.take();
    let showing = thread::spawn(move || stderr.map(output::show));
    let output = child
        .wait_with_output()
        .context("failed to wait for cargo")?;
    let _ = showing.join();
    if !output.status.success() {
        bail!("{what} failed");
    }
    let mut suites = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        if let Some(suite) = suite_of_message(line)? {
            suites.push(suite);
        }
    }
    suites.sort_by(|a, b| a.group.cmp(&b.group));
    Ok(suites)
}

/// Reads one of cargo's messages; only those about test executables matter.
fn suite_of_message(line: &str) -> Result<Option<Suite>> {
    let message: serde_json::Value = serde_json::from_str(line).context("cargo wrote no JSON")?;
    let (Some(executable), Some(manifest)) = (
        message["executable"].as_str(),
        message["manifest_path"].as_str(),
    ) else {
        return Ok(None);
    };
    if message["profile"]["test"] != true {
        return Ok(None);
    }
    let package = PathBuf::from(manifest);
    let package = package
        .parent()
        .and_then(|path| path.file_name())
        .unwrap_or_default();
    let package = match package.to_string_lossy().as_ref() {
        "tests" => "ingress-tests".to_owned(),
        name => name.to_owned(),
    };
    let target = message["target"]["name"].as_str().unwrap_or_default();
    let is_integration = message["target"]["kind"][0] == "test";
    let group = if is_integration {
        format!("{package}/{target}")
    } else {
        package
    };
    let executable = PathBuf::from(executable);
    Ok(Some(Suite {
        group,
        tests: list(&executable)?,
        elsewhere: Vec::new(),
        executable,
    }))
}

fn list(executable: &PathBuf) -> Result<Vec<String>> {
    let output = Command::new(executable)
        .args(["--list", "--format", "terse"])
        .output()
        .with_context(|| format!("failed to list the tests of {}", executable.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .map(str::to_owned)
        .collect())
}

const CLUSTER_SUITES: [&str; 5] = [
    "ingress-tests/cluster",
    "ingress-tests/conformance",
    "ingress-tests/control",
    "ingress-tests/deploy",
    "ingress-tests/rolling",
];

/// Parts of the names of tests that need devices which not every kernel has: bonds.
const DEVICES_OF_SOME_KERNELS: [&str; 1] = ["a_bond_"];

/// Parts of the names of tests that an emulator is too slow for: load, time limits, many megabytes.
const TOO_MUCH_FOR_AN_EMULATOR: [&str; 5] = [
    "bytes_to_and_from_a_pod",
    "ten_killed_daemons",
    "ten_thousand_requests",
    "under_load",
    "within_100_ms",
];
