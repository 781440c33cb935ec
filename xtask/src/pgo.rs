//! `sluice` built by a profile of itself at work (profile-guided optimisation).
//!
//! An instrumented daemon does the usual work on loopback, and the compiler then knows what of it
//! is hot. Flags are those of the one target, so they reach neither build scripts nor the eBPF
//! programs, and a target directory of its own leaves every other build as it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::build::{self, Rig};
use crate::shell::{cargo, output, say, step};

/// Builds `sluice` by a profile, which is taken anew when the code has changed since the last one;
/// gives its path. `rig` is how the programs are built that have it at work.
pub(crate) fn sluice(rig: Rig) -> Result<PathBuf> {
    let compiler = Compiler::ask()?;
    let profdata = compiler.profdata()?;
    let directory = build::target().join("pgo");
    let notes = directory.join("notes");
    let profile = directory.join("sluice.profdata");
    let mut instrumented = compiler.build("-Cprofile-generate", &directory.join("instrumented"));
    // On loopback no packet is steered.
    instrumented.env("AYA_BUILD_SKIP", "1");
    step("build an instrumented sluice", &mut instrumented)?;
    let instrumented = compiler.built(&directory.join("instrumented"));
    if is_older(&profile, &instrumented) {
        let programs = build::rig(rig)?;
        let _ = fs::remove_dir_all(&notes);
        fs::create_dir_all(&notes)?;
        let mut train = Command::new(programs.join("sluice-train"));
        train.arg("--sluice").arg(&instrumented);
        train.arg("--origin").arg(programs.join("sluice-origin"));
        step(
            "take a profile of its work",
            train.arg("--notes").arg(&notes),
        )?;
        let mut merge = Command::new(profdata);
        merge.arg("merge").arg("-o").arg(&profile).arg(&notes);
        step("merge the profile", &mut merge)?;
    } else {
        say("    the profile is of this code: it is used again");
    }
    let flag = format!("-Cprofile-use={}", profile.display());
    let optimised = directory.join("optimised");
    step(
        "build sluice by the profile",
        &mut compiler.build(&flag, &optimised),
    )?;
    Ok(compiler.built(&optimised))
}

/// Whether a file is not there, or not as new as another.
fn is_older(file: &Path, other: &Path) -> bool {
    let changed = |file: &Path| -> Result<SystemTime> { Ok(fs::metadata(file)?.modified()?) };
    !matches!((changed(file), changed(other)), (Ok(file), Ok(other)) if file >= other)
}

/// What rustc says about itself.
struct Compiler {
    host: String,
    /// Major version, which a profile's format goes with.
    llvm: String,
    libraries: PathBuf,
}

impl Compiler {
    fn ask() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let text = output(Command::new(&rustc).arg("-vV")).context("rustc -vV failed")?;
        let find = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let host = find("host: ").context("rustc names no host")?.to_owned();
        let llvm = find("LLVM version: ").and_then(|version| version.split('.').next());
        let llvm = llvm.context("rustc names no version of LLVM")?.to_owned();
        let libraries = ["--print", "target-libdir"];
        let libraries = output(Command::new(&rustc).args(libraries));
        let libraries = libraries.context("rustc names no directory of libraries")?;
        Ok(Self {
            host,
            llvm,
            libraries: PathBuf::from(libraries.trim()),
        })
    }

    /// `llvm-profdata` of the compiler's own LLVM: rustup's, else Debian's.
    fn profdata(&self) -> Result<PathBuf> {
        let llvm = &self.llvm;
        let candidates = [
            self.libraries.with_file_name("bin").join("llvm-profdata"),
            PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin/llvm-profdata")),
            PathBuf::from(format!("llvm-profdata-{llvm}")),
            PathBuf::from("llvm-profdata"),
        ];
        let mut others = Vec::new();
        for candidate in candidates {
            let Some(text) = output(Command::new(&candidate).arg("--version")) else {
                continue;
            };
            match major(&text) {
                Some(major) if major == llvm => return Ok(candidate),
                other => others.push(format!(
                    "{} is of {}",
                    candidate.display(),
                    other.unwrap_or("an unknown version")
                )),
            }
        }
        let others = if others.is_empty() {
            "none was found".to_owned()
        } else {
            others.join(", ")
        };
        bail!(
            "a profile needs llvm-profdata of LLVM {llvm}, rustc's own: {others}; install Debian's \
             llvm-{llvm}, or `rustup component add llvm-tools`"
        );
    }

    /// Builds `sluice` in release with one more flag. The settings of the profile stay as they are:
    /// cargo makes symbols' names of them, and functions are found by their names.
    fn build(&self, flag: &str, target: &Path) -> Command {
        let mut build = cargo();
        build.args(build::SLUICE).args(["--target", &self.host]);
        build.arg("--target-dir").arg(target);
        // Flags for all targets would take the place of those for one.
        let common = env::var("RUSTFLAGS").unwrap_or_default();
        let name = self.host.to_uppercase().replace('-', "_");
        let flags = format!("{common} {flag}");
        build.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), flags.trim());
        build.env_remove("RUSTFLAGS");
        build.env_remove("CARGO_ENCODED_RUSTFLAGS");
        build
    }

    fn built(&self, target: &Path) -> PathBuf {
        target.join(&self.host).join("release/sluice")
    }
}

/// The major version that a program of LLVM names.
fn major(text: &str) -> Option<&str> {
    let (_, version) = text.split_once("LLVM version ")?;
    version.split('.').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_llvm_is_read() {
        for text in [
            "Debian LLVM version 22.1.8\n  Optimized build.",
            "LLVM (http://llvm.org/):\n  LLVM version 22.1.2-rust-1.95.0-stable\n",
        ] {
            assert_eq!(major(text), Some("22"), "{text}");
        }
        assert_eq!(major("profdata"), None);
    }
}
