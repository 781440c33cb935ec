//! Builds the eBPF object that the binary embeds.
//!
//! A nightly toolchain with rust-src is used where rustup has one, else the toolchain that
//! `cargo xtask setup` links as `sluice-bpf`. With `AYA_BUILD_SKIP=1` the object is empty: the
//! binary then has no eBPF datapath and says so. The files of the dashboard are embedded compressed.

#[path = "build/assets.rs"]
mod assets;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use aya_build::{Package, Toolchain};

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=../ingress-common/src");
    assets::embed()?;
    let object = PathBuf::from(env::var("OUT_DIR").context("cargo sets OUT_DIR")?).join(OBJECT);
    if env::var("AYA_BUILD_SKIP").is_ok_and(|value| value == "1" || value == "true") {
        println!("cargo:rerun-if-env-changed=AYA_BUILD_SKIP");
        return fs::write(&object, []).context("failed to write the empty object");
    }
    let toolchain = if has_rust_src("nightly") {
        Toolchain::Nightly
    } else if has_rust_src(LINKED_TOOLCHAIN) {
        // SAFETY: build scripts have one thread here.
        unsafe { env::set_var("RUSTC_BOOTSTRAP", "1") };
        Toolchain::Custom(LINKED_TOOLCHAIN)
    } else {
        bail!(
            "no toolchain can build for bpfel-unknown-none: run `cargo xtask setup`, or set \
             AYA_BUILD_SKIP=1 to build without the eBPF datapath"
        );
    };
    let package = Package {
        name: "ingress-ebpf",
        root_dir: "../ingress-ebpf",
        ..Package::default()
    };
    aya_build::build_ebpf([package], toolchain)
}

/// Whether a rustup toolchain is there with the sources of core.
fn has_rust_src(toolchain: &str) -> bool {
    Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .is_some_and(|root| Path::new(root.trim()).join(CORE_SOURCE).exists())
}

const OBJECT: &str = "sluice-ebpf";
const LINKED_TOOLCHAIN: &str = "sluice-bpf";
const CORE_SOURCE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";
