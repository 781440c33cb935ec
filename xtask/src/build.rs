//! Builds what runs: `sluice` in release, the rig's programs around it.

use std::env;
use std::path::PathBuf;

use anyhow::Result;

use crate::shell::{cargo, root, step};

/// Builds `sluice` in release, and gives its path.
pub(crate) fn sluice() -> Result<PathBuf> {
    let mut build = cargo();
    build.args([
        "build",
        "--release",
        "-p",
        "ingress-userspace",
        "--bin",
        "sluice",
    ]);
    step("build sluice in release", &mut build)?;
    Ok(target().join("release/sluice"))
}

/// Builds `sluice` like the tests, and gives its path.
pub(crate) fn sluice_for_tests() -> Result<PathBuf> {
    let mut build = cargo();
    build.args(["build", "-p", "ingress-userspace", "--bin", "sluice"]);
    step("build sluice", &mut build)?;
    Ok(target().join("debug/sluice"))
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
    let directory = match kind {
        Rig::Dev => "debug",
        Rig::Fast => {
            build.args(["--profile", "rig"]);
            "rig"
        }
    };
    step("build the rig", &mut build)?;
    Ok(target().join(directory))
}

fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}
