//! `sluice-container SPEC`: becomes the container that the file SPEC describes.

use std::env;
use std::fs;

use anyhow::{Context as _, Result};
use ingress_tests::cluster::container::become_container;

fn main() -> Result<()> {
    let path = env::args_os().nth(1).context("no SPEC is given")?;
    let spec = fs::read(&path).context("failed to read SPEC")?;
    become_container(&serde_json::from_slice(&spec)?)
}
