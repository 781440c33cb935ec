//! `cargo xtask`: everything that is done with this repository, each verb with its own set-up.

mod bench;
mod build;
mod demo;
mod lint;
mod setup;
mod shell;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything that is done with this repository"
)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what is missing: Debian packages, the eBPF toolchain, bpf-linker. Safe to repeat.
    Setup,
    /// Build `sluice` in release.
    Build,
    /// Build an edge node out of network namespaces and show what Sluice does there (needs root).
    Demo(demo::Flags),
    /// Run every test, or those whose name or group contains one of NAME.
    Test(test::Flags),
    /// Measure, and print ratios with their spread (needs root).
    Bench(bench::Flags),
    /// Format, tidiness, clippy, documentation and dependencies: what CI asks besides the tests.
    Lint,
    /// Check layout and dependency rules of ARCHITECTURE.md.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().verb {
        Verb::Setup => setup::run(setup::Scope::Everything),
        Verb::Build => setup::run(setup::Scope::Build).and_then(|()| build::sluice().map(drop)),
        Verb::Demo(flags) => demo::run(&flags),
        Verb::Test(flags) => test::run(&flags),
        Verb::Bench(flags) => bench::run(&flags),
        Verb::Lint => lint::run(),
        Verb::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            shell::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
