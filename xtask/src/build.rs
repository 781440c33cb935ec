//! The verb `build`: `sluice` as a user wants it.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Args;

use crate::compile::{self, Debug, Rig};
use crate::pgo;
use crate::shell::say;

#[derive(Args)]
pub(crate) struct Flags {
    /// By a profile of its work, which is taken on loopback: two builds, and a quicker daemon.
    #[arg(long)]
    pgo: bool,
    /// The copy without lines of source: backtraces have names only. `strip` breaks what was built
    /// by a profile.
    #[arg(long, requires = "output")]
    strip: bool,
    /// Also copy it here.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Flags {
    fn debug(&self) -> Debug {
        if self.strip {
            Debug::Stripped
        } else {
            Debug::Lines
        }
    }
}

/// Builds `sluice` as a user wants it, and says where it is.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let sluice = if flags.pgo {
        pgo::sluice(Rig::Dev, flags.debug())?
    } else {
        compile::sluice()?
    };
    say(&format!("    {}", sluice.display()));
    if let Some(output) = &flags.output {
        fs::copy(&sluice, output)
            .with_context(|| format!("failed to copy it to {}", output.display()))?;
        if flags.strip && !flags.pgo {
            compile::strip(output)?;
        }
    }
    Ok(())
}
