//! Compiles what runs: `sluice` in release, the rig's programs around it.

pub(crate) mod output;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use self::output::build_step;
use crate::shell::{cargo, root, step};

/// The debug information of a binary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Debug {
    /// Names of functions, and lines.
    Lines,
    /// Names of functions.
    Stripped,
}

impl Debug {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lines => "lines",
            Self::Stripped => "stripped",
        }
    }
}

/// Takes lines of source out of a binary.
pub(crate) fn strip(binary: &Path) -> Result<()> {
    let mut strip = Command::new("strip");
    step("strip it", strip.arg("--strip-debug").arg(binary))
}

/// Builds `sluice` in release, and gives its path.
pub(crate) fn sluice() -> Result<PathBuf> {
    build_step("build sluice in release", cargo().args(SLUICE))?;
    Ok(target().join("release/sluice"))
}

/// How the rig's programs are built.
#[derive(Clone, Copy)]
pub(crate) enum Rig {
    /// Like the tests, with which they share what is compiled.
    Dev,
    /// For measurements.
    Fast,
}

/// Builds the rig's programs, and gives the directory that they are in.
pub(crate) fn rig(kind: Rig) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "-p", "ingress-tests", "--bins"]);
    kind.step("build the rig", build)
}

/// Builds the benches and the rig's programs for measurements, and gives the directory that they are in.
pub(crate) fn bench() -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "build",
        "-p",
        "ingress-tests",
        "-p",
        "ingress-bench",
        "--bins",
    ]);
    Rig::Fast.step("build the benches and the rig", build)
}

/// Builds `sluice` and the rig's programs in the same way, with the benches if it is for measurements, and gives the
/// directory that they are in.
/// In one go: by itself, each would want other features of what both depend on.
pub(crate) fn sluice_and_rig(kind: Rig) -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "-p", "ingress-userspace", "-p", "ingress-tests"]);
    if matches!(kind, Rig::Fast) {
        build.args(["-p", "ingress-bench"]);
    }
    build.arg("--bins");
    kind.step("build sluice and the rig", build)
}

impl Rig {
    fn step(self, what: &str, mut build: Command) -> Result<PathBuf> {
        let directory = match self {
            Self::Dev => "debug",
            Self::Fast => {
                build.args(["--profile", "rig"]);
                "rig"
            }
        };
        build_step(what, &mut build)?;
        Ok(target().join(directory))
    }
}

/// Builds `sluice` optimised, but sooner than the release is built, and gives its path.
pub(crate) fn sluice_optimised() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--profile", "rig"]);
    build.args(["-p", "ingress-userspace", "--bin", "sluice"]);
    build_step("build sluice, optimised", &mut build)?;
    Ok(target().join("rig/sluice"))
}

/// Builds what instructions are counted of, optimised: the core's work by itself.
pub(crate) fn work() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "--profile", "rig"]);
    build.args(["-p", "ingress-core", "--example", "work"]);
    build_step("build the core's work, optimised", &mut build)?;
    Ok(target().join("rig/examples/work"))
}

/// Where cargo builds.
pub(crate) fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The cargo arguments that build `sluice` in release.
pub(crate) const SLUICE: [&str; 6] = [
    "build",
    "--release",
    "-p",
    "ingress-userspace",
    "--bin",
    "sluice",
];
