//! The verb `image`: the container image, as an OCI image layout in one tar file.
//!
//! `rootfs` collects the files of the image, `layout` packs them.
//! Invariant: the same files give the same bytes, on any day and for any user.

mod layout;
mod rootfs;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;

pub(crate) use self::rootfs::PACKAGES;
use crate::compile::{self, Debug, Rig};
use crate::pgo;
use crate::shell::say;

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    pub(crate) build: Build,
    /// Write it here [default: target/dist/sluice-VERSION-image.tar].
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// How the binary of a release is built.
#[derive(Args)]
pub(crate) struct Build {
    /// With the binary of the test rig, which is built sooner and is slower.
    #[arg(long)]
    quick: bool,
    /// With a binary by a profile of its work, which takes two builds.
    #[arg(long, conflicts_with = "quick")]
    pgo: bool,
}

impl Build {
    /// Builds `sluice`, and copies it without lines of source to `output`.
    pub(crate) fn stripped(&self, output: &Path) -> Result<()> {
        let built = if self.pgo {
            pgo::sluice(Rig::Dev, Debug::Stripped)?
        } else if self.quick {
            compile::sluice_optimised()?
        } else {
            compile::sluice()?
        };
        copy(&built, output)?;
        if self.pgo {
            return Ok(());
        }
        compile::strip(output)
    }
}

/// Builds `sluice` and packs its image.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let directory = compile::target().join("dist");
    fs::create_dir_all(&directory)?;
    let binary = directory.join("sluice");
    flags.build.stripped(&binary)?;
    let output = flags.output.clone();
    let output = output.unwrap_or_else(|| directory.join(file_name()));
    pack(&binary, &output)
}

/// The file name of the image in a release.
pub(crate) fn file_name() -> String {
    format!("sluice-{VERSION}-image.tar")
}

/// Packs the image of a binary that has been built for the tests.
pub(crate) fn of_tests(binary: &Path) -> Result<PathBuf> {
    let stripped = binary.with_extension("stripped");
    copy(binary, &stripped)?;
    compile::strip(&stripped)?;
    let output = binary.with_extension("image.tar");
    pack(&stripped, &output)?;
    Ok(output)
}

/// Packs the image of a binary into `output`.
pub(crate) fn pack(binary: &Path, output: &Path) -> Result<()> {
    let work = output.with_extension("tmp");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    let files = work.join("rootfs");
    rootfs::assemble(binary, &files)?;
    layout::pack(&files, &work, output)?;
    fs::remove_dir_all(&work)?;
    let size = fs::metadata(output)?.len();
    say(&format!("    {} ({} KiB)", output.display(), size / 1024));
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to);
    copied.with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// The version of the release.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
