//! One cell of `cargo xtask bench instructions`, held to a bound: what a kept-alive request through the ingress
//! netns takes, in terms of one to a listener on a host without any firewall rule.
//!
//! The emulator's clock counts instructions, so that the ratio repeats to 1 %, whatever else the machine does.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::kernel::{self, Kernel};
use crate::shell::{root, say};
use crate::{compile, setup};

/// The name under which the cell is listed.
pub(super) const NAME: &str =
    "packet-path: a kept-alive request through the ingress netns on Linux 6.12";

/// Whether one of these names asks for the cell.
pub(super) fn is_wanted(names: &[String]) -> bool {
    names.is_empty() || names.iter().any(|name| NAME.contains(name.as_str()))
}

/// Measures the cell, some two minutes once its programs are built; an error if the ratio is above the bound.
pub(super) fn run() -> Result<()> {
    setup::install_packages(&[("wrk", "wrk")])?;
    let programs = compile::sluice_and_rig(compile::Rig::Fast)?;
    say(&format!("==> {NAME}: at most {BOUND} of the bare host"));
    let mut bench = Command::new(programs.join("sluice-bench"));
    bench.current_dir(root());
    bench.args([
        "instructions",
        "--paths",
        PATHS,
        "--workloads",
        "keep-alive",
    ]);
    bench.args(["--bound", BOUND]);
    let machine = kernel::counting(Kernel::V6_12)?;
    bench.args(machine.iter().map(|word| format!("--machine={word}")));
    bench.arg("--sluice").arg(programs.join("sluice"));
    bench.arg("--origin").arg(programs.join("sluice-origin"));
    let status = bench.status().context("failed to start the bench")?;
    if !status.success() {
        bail!("the bench ended with {status}");
    }
    Ok(())
}

/// The guard is left out: on the rig's veth, XDP copies each packet, which hides what the rest takes.
const PATHS: &str = "bare,unguarded";
/// Measured: 1.03; without remembered connections and next hops, 1.09.
const BOUND: &str = "1.06";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cell_is_part_of_a_whole_run_and_runs_by_its_name() {
        assert!(is_wanted(&[]));
        assert!(is_wanted(&["packet-path".to_owned()]));
        assert!(!is_wanted(&["programs".to_owned()]));
    }
}
