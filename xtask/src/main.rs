//! `cargo xtask`: everything that is done with this repository, each verb with its own set-up.

mod assets;
mod bench;
mod bolt;
mod book;
mod build;
mod cluster;
mod compile;
mod demo;
mod dist;
mod fuzz;
mod go;
mod image;
mod kernel;
mod lint;
mod peers;
mod pgo;
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
    /// Install what is missing: Debian packages, the eBPF toolchain, bpf-linker, Go and the test
    /// cluster's programs. Safe to repeat.
    Setup,
    /// Build `sluice` in release.
    Build(build::Flags),
    /// Pack the container image: an OCI image layout in one tar file.
    Image(image::Flags),
    /// Make everything that a release hands out, in `target/dist`: binary, image, chart, manual pages,
    /// completions, SBOM and checksums.
    Dist(dist::Flags),
    /// Check the links of the documentation and build the book, in `target/book/html`.
    Book,
    /// Build an edge node out of network namespaces and show what Sluice does there (needs root).
    Demo(demo::Flags),
    /// Run a Kubernetes cluster on network namespaces until Ctrl-C (needs root).
    Cluster(cluster::Flags),
    /// Run the scenarios of the Ingress conformance suite on a cluster (needs root).
    Conformance,
    /// Run every test, or those whose name or group contains one of NAME.
    Test(test::Flags),
    /// Run the fuzz targets, or those whose name contains one of TARGETS.
    Fuzz(fuzz::Flags),
    /// Measure, and print ratios with their spread (needs root).
    Bench(bench::Flags),
    /// Run a command on one of Debian's kernels, in an emulator (needs root).
    Kernel(kernel::Flags),
    /// Format, tidiness, clippy, documentation, book and dependencies: what CI asks besides the tests.
    Lint,
    /// Check layout and dependency rules of ARCHITECTURE.md.
    Tidy,
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().verb {
        Verb::Setup => {
            setup::run(setup::Scope::Everything).and_then(|()| assets::ensure().map(drop))
        }
        Verb::Build(flags) => setup::run(setup::Scope::Build).and_then(|()| build::run(&flags)),
        Verb::Image(flags) => setup::run(setup::Scope::Build).and_then(|()| image::run(&flags)),
        Verb::Dist(flags) => setup::run(setup::Scope::Build).and_then(|()| dist::run(&flags)),
        Verb::Book => book::run(),
        Verb::Demo(flags) => demo::run(&flags),
        Verb::Cluster(flags) => cluster::run(&flags),
        Verb::Conformance => test::conformance(),
        Verb::Test(flags) => test::run(&flags),
        Verb::Fuzz(flags) => fuzz::run(&flags),
        Verb::Bench(flags) => bench::run(&flags),
        Verb::Kernel(flags) => {
            return match kernel::run(&flags) {
                Ok(code) => code,
                Err(error) => failed(&error),
            };
        }
        Verb::Lint => lint::run(),
        Verb::Tidy => tidy::run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    shell::say(&format!("error: {error:#}"));
    ExitCode::FAILURE
}
