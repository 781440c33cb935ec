//! A built `sluice` laid out anew by what of it runs (LLVM's BOLT).
//!
//! The compiler knows by its profile which branches are taken, but the linker lays functions out
//! as they come: what a request needs is spread over a text of megabytes. BOLT puts what runs
//! together, and what does not elsewhere. It takes notes of its own, since those of the compiler
//! are about code that was not optimised yet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::compile::{self, Debug};
use crate::shell::{output, say, step};

/// What the linker has to leave in the binary for BOLT.
pub(crate) const LINKED_WITH: &str = "-Clink-arg=-Wl,--emit-relocs";

/// BOLT, and what puts its notes together.
pub(crate) struct Bolt {
    bolt: PathBuf,
    merge: PathBuf,
}

impl Bolt {
    /// Finds it: Debian's of the compiler's version of LLVM, else what is on the path. It reads
    /// machine code, so the versions need not be the same.
    pub(crate) fn find(llvm: &str) -> Result<Self> {
        let of_debian = PathBuf::from(format!("/usr/lib/llvm-{llvm}/bin"));
        for directory in [of_debian, PathBuf::new()] {
            let found = Self {
                bolt: directory.join("llvm-bolt"),
                merge: directory.join("merge-fdata"),
            };
            let answers = |program| output(Command::new(program).arg("--version")).is_some();
            if answers(&found.bolt) && answers(&found.merge) {
                return Ok(found);
            }
        }
        bail!(
            "a build by a profile needs llvm-bolt and merge-fdata: install Debian's bolt-{llvm}, or \
             LLVM's BOLT of any version on the path"
        );
    }

    /// Lays `built` out by what of it runs in the exercise: `sluice` in `directory`, once it has
    /// gone through the exercise too. `exercise` has a daemon do its usual work, under a title and with
    /// a place for its notes. `strip` does not understand the result, so it comes before.
    pub(crate) fn lay_out(
        &self,
        built: &Path,
        debug: Debug,
        directory: &Path,
        exercise: impl Fn(&str, &Path, &Path) -> Result<()>,
    ) -> Result<()> {
        let notes = directory.join("notes");
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(&notes)?;
        let old = directory.join("old");
        fs::copy(built, &old)?;
        if debug == Debug::Stripped {
            compile::strip(&old)?;
        }

        let instrumented = directory.join("instrumented");
        let mut instrument = self.on(&old, &instrumented);
        instrument.args(["-instrument", "-instrumentation-file-append-pid"]);
        let prefix = notes.join("of");
        instrument.arg(format!("-instrumentation-file={}", prefix.display()));
        logged("instrument what was built", &mut instrument, directory)?;
        exercise("note what of it runs", &instrumented, &notes)?;

        let merged = directory.join("sluice.fdata");
        let mut merge = Command::new(&self.merge);
        merge.args(files_in(&notes)?).arg("-o").arg(&merged);
        logged("merge the notes", &mut merge, directory)?;

        let new = directory.join("new");
        let mut lay_out = self.on(&old, &new);
        lay_out.arg(format!("-data={}", merged.display())).args(HOW);
        logged("lay it out by them", &mut lay_out, directory)?;
        exercise("exercise the result", &new, &notes)?;

        fs::rename(new, directory.join("sluice"))?;
        Ok(())
    }

    fn on(&self, from: &Path, to: &Path) -> Command {
        let mut bolt = Command::new(&self.bolt);
        bolt.arg(from).arg("-o").arg(to);
        bolt.arg(format!("-skip-funcs={LEFT_ALONE}"));
        bolt
    }
}

/// A step whose words go to a file: BOLT has thousands about a binary that is as it should be.
fn logged(what: &str, command: &mut Command, directory: &Path) -> Result<()> {
    let path = directory.join("log");
    let log = File::create(&path)?;
    command.stdout(log.try_clone()?).stderr(log);
    step(what, command).inspect_err(|_| {
        let log = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        say(&last.join("\n"));
    })
}

fn files_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)
        .with_context(|| format!("failed to read {}", directory.display()))?;
    let files = entries.map(|entry| Ok(entry?.path()));
    files.collect()
}

/// aws-lc, most of which is assembly by hand: where its parts jump to is for itself to know.
const LEFT_ALONE: &str = "aws_lc_.*";

/// Blocks and functions by what follows what; what did not run, landing pads among it, elsewhere.
const HOW: [&str; 7] = [
    "-reorder-blocks=ext-tsp",
    "-reorder-functions=cdsort",
    "-split-functions",
    "-split-all-cold",
    "-split-eh",
    "-icf=safe",
    "-update-debug-sections",
];
