//! What CI asks besides the tests.

use anyhow::Result;

use crate::shell::{cargo, step};
use crate::{book, setup, tidy};

/// Runs all checks; the first that fails ends it.
pub(crate) fn run() -> Result<()> {
    setup::run(setup::Scope::Everything)?;
    step("format", cargo().args(["fmt", "--all", "--check"]))?;
    tidy::run()?;
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "--workspace",
        "--exclude",
        "ingress-ebpf",
        "--all-targets",
        "--quiet",
    ]);
    step("clippy", clippy.args(["--", "-D", "warnings"]))?;
    // The eBPF crate's binary is for another target; its library and tests are for this one.
    let mut clippy = cargo();
    clippy.args([
        "clippy",
        "-p",
        "ingress-ebpf",
        "--lib",
        "--tests",
        "--quiet",
    ]);
    step(
        "clippy of the eBPF library",
        clippy.args(["--", "-D", "warnings"]),
    )?;
    let mut doc = cargo();
    doc.args([
        "doc",
        "--workspace",
        "--exclude",
        "ingress-ebpf",
        "--no-deps",
        "--quiet",
    ]);
    step("documentation", doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    book::run()?;
    let mut deny = cargo();
    step(
        "dependencies",
        deny.args([
            "deny",
            "--log-level",
            "error",
            "check",
            "bans",
            "licenses",
            "sources",
        ]),
    )
}
