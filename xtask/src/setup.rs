//! Installs what is missing, and only that: a second run finds everything and takes a second.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::shell::{has_program, is_root, output, say, step};

/// How much is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// To build.
    Build,
    /// To build, and to run the rig: namespaces, firewall rules, clients.
    Rig,
    /// All that, and the load generators.
    Bench,
    /// To build, to run the rig, and the linters.
    Everything,
}

/// Installs what `scope` needs.
pub(crate) fn run(scope: Scope) -> Result<()> {
    let mut packages = vec![
        ("cc", "build-essential"),
        // Of the fuzz targets' runtime.
        ("c++", "build-essential"),
        ("cmake", "cmake"),
        ("pkg-config", "pkg-config"),
    ];
    let nightly = has_rust_src("nightly");
    if scope != Scope::Build {
        packages.extend([
            ("ip", "iproute2"),
            ("iptables", "iptables"),
            ("nft", "nftables"),
            ("conntrack", "conntrack"),
            ("curl", "curl"),
            // Rules, rewrites and what is refused are compared with the real ones.
            ("nginx", "nginx-light"),
            ("haproxy", "haproxy"),
            ("dnsmasq", "dnsmasq-base"),
            ("tc", "iproute2"),
            ("bpftool", "bpftool"),
            ("valgrind", "valgrind"),
            // Checks and tests the alerts.
            ("promtool", "prometheus"),
            // Starts the container image.
            ("crun", "crun"),
            // Announce an address of several nodes.
            ("keepalived", "keepalived"),
            ("bird", "bird2"),
            ("vtysh", "frr"),
        ]);
    }
    install_packages(&packages)?;
    if nightly {
        say("    eBPF: rustup's nightly has rust-src, it is used");
    } else {
        debian_toolchain()?;
    }
    bpf_linker()?;
    if scope == Scope::Everything {
        components()?;
        cargo_deny()?;
    }
    Ok(())
}

/// Installs what a build by a profile needs besides.
pub(crate) fn profile_tools() -> Result<()> {
    if has_program("llvm-bolt") {
        return Ok(());
    }
    install_packages(&[("llvm-profdata-22", "llvm-22"), ("llvm-bolt-22", "bolt-22")])
}

/// Installs the Debian packages of programs that are not on the path.
pub(crate) fn install_packages(programs: &[(&str, &str)]) -> Result<()> {
    let missing = programs.iter().filter(|(program, _)| !has_program(program));
    let names: Vec<&str> = missing.map(|(_, package)| *package).collect();
    if names.is_empty() {
        return Ok(());
    }
    apt(&names)
}

fn apt(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if !is_root() {
        bail!(
            "missing on this machine: {list}; install them (apt-get install {list}) or run as root"
        );
    }
    let apt = || {
        let mut apt = Command::new("apt-get");
        apt.env("DEBIAN_FRONTEND", "noninteractive")
            .args(["-q", "-y"]);
        apt
    };
    step("update the package lists", apt().arg("update").arg("-qq"))?;
    let what = format!("install {list}");
    step(
        &what,
        apt()
            .args(["install", "-qq", "--no-install-recommends"])
            .args(packages),
    )
}

/// Debian's rustc with sources, for machines where rustup has none; linked under our own name, so
/// that nobody's default toolchain changes.
fn debian_toolchain() -> Result<()> {
    let core = Path::new("/usr").join(CORE_SOURCE);
    if !core.exists() || !Path::new("/usr/bin/cargo").exists() {
        apt(&["rustc-web", "cargo-web", "rust-web-src"])?;
    }
    if !has_rust_src(TOOLCHAIN) {
        let mut link = Command::new("rustup");
        step(
            "link the eBPF toolchain",
            link.args(["toolchain", "link", TOOLCHAIN, "/usr"]),
        )?;
    }
    if !has_rust_src(TOOLCHAIN) {
        bail!(
            "toolchain `{TOOLCHAIN}` has no sources of core at {}",
            core.display()
        );
    }
    Ok(())
}

fn bpf_linker() -> Result<()> {
    let wanted = format!("bpf-linker {BPF_LINKER}");
    let found = output(Command::new("bpf-linker").arg("--version"));
    if found.is_some_and(|version| version.trim() == wanted) {
        return Ok(());
    }
    if !Path::new("/usr/lib/llvm-22/lib/libPolly.a").exists() {
        apt(&[
            "llvm-22-dev",
            "libpolly-22-dev",
            "libzstd-dev",
            "zlib1g-dev",
        ])?;
    }
    let mut install = cargo_install("bpf-linker", BPF_LINKER);
    install.args(["--no-default-features", "--features", "llvm-22"]);
    step(
        &format!("build {wanted}"),
        install.env("LLVM_PREFIX", "/usr/lib/llvm-22"),
    )
}

fn components() -> Result<()> {
    if output(Command::new("cargo").args(["clippy", "--version"])).is_some()
        && output(Command::new("cargo").args(["fmt", "--version"])).is_some()
    {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    step(
        "add clippy and rustfmt",
        add.args(["component", "add", "clippy", "rustfmt"]),
    )
}

fn cargo_deny() -> Result<()> {
    let wanted = format!("cargo-deny {CARGO_DENY}");
    let found = output(Command::new("cargo-deny").arg("--version"));
    if found.is_some_and(|version| version.trim() == wanted) {
        return Ok(());
    }
    step(
        &format!("build {wanted}"),
        &mut cargo_install("cargo-deny", CARGO_DENY),
    )
}

/// Builds mdBook unless this version is there.
pub(crate) fn mdbook() -> Result<()> {
    let wanted = format!("mdbook v{MDBOOK}");
    let found = output(Command::new("mdbook").arg("--version"));
    if found.is_some_and(|version| version.trim() == wanted) {
        return Ok(());
    }
    let mut install = cargo_install("mdbook", MDBOOK);
    install.args(["--no-default-features", "--features", "search"]);
    step(&format!("build {wanted}"), &mut install)
}

fn cargo_install(name: &str, version: &str) -> Command {
    let mut install = Command::new("cargo");
    install.args(["install", name, "--version", version, "--locked", "--quiet"]);
    // A target directory of the project is no place for tools.
    install.current_dir(home().unwrap_or_else(|_| PathBuf::from("/")));
    install
}

fn home() -> Result<PathBuf> {
    env::var_os("HOME")
        .map(PathBuf::from)
        .context("HOME is not set")
}

fn has_rust_src(toolchain: &str) -> bool {
    let arguments = ["run", toolchain, "rustc", "--print", "sysroot"];
    output(Command::new("rustup").args(arguments))
        .is_some_and(|root| Path::new(root.trim()).join(CORE_SOURCE).exists())
}

/// As ingress-userspace's build script looks for it.
const TOOLCHAIN: &str = "sluice-bpf";
const CORE_SOURCE: &str = "lib/rustlib/src/rust/library/core/Cargo.toml";
const BPF_LINKER: &str = "0.13.0";
const CARGO_DENY: &str = "0.20.2";
/// The version of mdBook that builds the documentation.
pub(crate) const MDBOOK: &str = "0.5.4";
