//! The dashboard in a real browser: `tests/dashboard` drives Chromium by playwright-core, and axe-core judges
//! each page. Each test here is one script with a daemon, an endpoint and a browser of its own.

use std::env;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn files_of_the_page_are_typed() -> Result<()> {
    let modules = modules()?;
    let mut checker = Command::new(modules.join("node_modules/.bin/tsc"));
    checker.arg("--project").arg(scripts());
    succeed(&mut checker)
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn every_page_is_accessible_in_dark_and_by_keyboard() -> Result<()> {
    script("pages.mjs", &["dark"])
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn every_page_is_accessible_in_light() -> Result<()> {
    script("pages.mjs", &["light"])
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn pages_follow_what_happens_and_agree_with_the_command_line() -> Result<()> {
    script("live.mjs", &[])
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn hostile_names_are_text_and_secrets_are_nowhere() -> Result<()> {
    script("hostile.mjs", &[])
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn ten_thousand_ingresses_keep_pages_small() -> Result<()> {
    script("scale.mjs", &[])
}

#[test]
#[ignore = "needs root: xtask installs Chromium and Node.js then"]
fn several_nodes_are_one_page_and_the_one_that_is_away_is_named() -> Result<()> {
    script("nodes.mjs", &[])
}

fn script(name: &str, arguments: &[&str]) -> Result<()> {
    let mut node = Command::new("node");
    node.arg(scripts().join(name)).args(arguments);
    node.env("SLUICE_DASHBOARD_MODULES", modules()?);
    succeed(&mut node)
}

/// Runs a command and shows what it wrote.
fn succeed(command: &mut Command) -> Result<()> {
    let output = command.output();
    let output = output.with_context(|| format!("failed to run {command:?}"))?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    // Measured times: for the reader of a run that succeeds as well.
    let _ = io::stderr().write_all(text.as_bytes());
    ensure!(output.status.success(), "{command:?} failed:\n{text}");
    Ok(())
}

fn scripts() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("dashboard")
}

/// The directory with the packages of `tests/dashboard/package.json`.
fn modules() -> Result<PathBuf> {
    let modules = env::var_os("SLUICE_DASHBOARD_MODULES");
    let modules =
        modules.context("run these tests by `cargo xtask test ingress-tests/dashboard`")?;
    Ok(modules.into())
}
