//! `sluice-train`: has an instrumented daemon do its usual work, so that it takes notes.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Parser;
use ingress_tests::demo::Programs;
use ingress_tests::train::Exercise;

#[derive(Parser)]
#[command(about = "Has an instrumented daemon do its usual work, so that it takes notes")]
struct CommandLine {
    /// The daemon.
    #[arg(long)]
    sluice: PathBuf,
    /// What is behind it.
    #[arg(long)]
    origin: PathBuf,
    /// Directory of the notes.
    #[arg(long)]
    notes: PathBuf,
}

fn main() -> Result<()> {
    let flags = CommandLine::parse();
    let programs = Programs {
        sluice: flags.sluice,
        origin: flags.origin,
    };
    let exercise = Exercise {
        programs,
        notes: flags.notes,
        percent: 100,
    };
    exercise.run(|what| {
        let _ = writeln!(std::io::stderr(), "    {what}");
    })
}
