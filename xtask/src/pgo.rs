//! `sluice` built by a profile of itself at work (profile-guided optimisation).
//!
//! An instrumented daemon does the usual work on loopback, and the compiler then knows what of it
//! is hot; then what was built is laid out by what of it runs. Flags are those of the one target, so
//! they reach neither build scripts nor the eBPF programs, and a target directory of its own leaves
//! every other build as it is.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::bolt::{self, Bolt};
use crate::compile::{self, Debug, Rig};
use crate::setup;
use crate::shell::{cargo, output, say, step};

/// Builds `sluice` by a profile, which is taken anew when the code has changed since the last one,
/// and lays it out by another; gives its path. `rig` is how the programs are built that have it at
/// work.
pub(crate) fn sluice(rig: Rig, debug: Debug) -> Result<PathBuf> {
    setup::profile_tools()?;
    let compiler = Compiler::ask()?;
    let (profdata, bolt) = (compiler.profdata()?, Bolt::find(&compiler.llvm)?);
    let directory = compile::target().join("pgo");
    let mut instrumented = compiler.build("-Cprofile-generate", &directory.join("instrumented"));
    // On loopback no packet is steered.
    instrumented.env("AYA_BUILD_SKIP", "1");
    step("build an instrumented sluice", &mut instrumented)?;
    let instrumented = compiler.built(&directory.join("instrumented"));
    let trainer = Trainer::build(rig)?;
    let profile = directory.join("sluice.profdata");
    if is_older(&profile, &instrumented) || is_older(&profile, &trainer.program()) {
        let notes = directory.join("notes");
        let _ = fs::remove_dir_all(&notes);
        fs::create_dir_all(&notes)?;
        trainer.run("take a profile of its work", &instrumented, &notes)?;
        let mut merge = Command::new(profdata);
        merge.arg("merge").arg("-o").arg(&profile).arg(&notes);
        step("merge the profile", &mut merge)?;
    } else {
        say("    the profile is of this code: it is used again");
    }
    let flags = format!("-Cprofile-use={} {}", profile.display(), bolt::LINKED_WITH);
    let optimised = directory.join("optimised");
    step(
        "build sluice by the profile",
        &mut compiler.build(&flags, &optimised),
    )?;
    let built = compiler.built(&optimised);
    let place = directory.join(debug.name());
    let laid_out = place.join("sluice");
    if is_older(&laid_out, &built) {
        let exercise = |what: &str, sluice: &Path, notes: &Path| trainer.run(what, sluice, notes);
        bolt.lay_out(&built, debug, &place, exercise)?;
    } else {
        say("    it is laid out already");
    }
    Ok(laid_out)
}

/// What has a daemon do its usual work.
struct Trainer {
    programs: PathBuf,
}

impl Trainer {
    fn build(rig: Rig) -> Result<Self> {
        let programs = compile::rig(rig)?;
        Ok(Self { programs })
    }

    fn program(&self) -> PathBuf {
        self.programs.join("sluice-train")
    }

    /// Has `sluice` do its usual work; what it notes goes to `notes`.
    fn run(&self, what: &str, sluice: &Path, notes: &Path) -> Result<()> {
        let mut train = Command::new(self.program());
        train.arg("--sluice").arg(sluice);
        train
            .arg("--origin")
            .arg(self.programs.join("sluice-origin"));
        step(what, train.arg("--notes").arg(notes))
    }
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

    /// Builds `sluice` in release with more flags. The settings of the profile stay as they are:
    /// cargo makes symbols' names of them, and functions are found by their names.
    fn build(&self, more: &str, target: &Path) -> Command {
        let mut build = cargo();
        build.args(compile::SLUICE).args(["--target", &self.host]);
        build.arg("--target-dir").arg(target);
        // Flags for all targets would take the place of those for one.
        let common = env::var("RUSTFLAGS").unwrap_or_default();
        let name = self.host.to_uppercase().replace('-', "_");
        let flags = format!("{common} {more}");
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
