//! The figures that the benchmark reports.

use anyhow::Result;
use ingress_common::verdict::Program;
use ingress_tests::programs::{Programs, nanoseconds_per_packet};

/// The verifier gives up after a million, and takes time for each before anything is served.
#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn no_program_takes_the_verifier_long() -> Result<()> {
    for (program, instructions) in Programs::load()?.verified_instructions()? {
        println!(
            "{instructions:>6} instructions verified  {}",
            program.name()
        );
        assert!(instructions < VERIFIED_MAX, "{}", program.name());
    }
    Ok(())
}

#[test]
#[ignore = "needs root: network namespaces and eBPF programs"]
fn every_program_has_figures() -> Result<()> {
    let costs = nanoseconds_per_packet(10_000)?;
    // The kernel runs no program of a socket map for a test.
    for program in Program::ALL
        .into_iter()
        .filter(|program| *program != Program::Shortcut)
    {
        let is_of_program = |name: &str| name.starts_with(program.name());
        assert!(costs.iter().any(|(name, _)| is_of_program(name)));
    }
    for (name, nanoseconds) in costs {
        println!("{nanoseconds:>5} ns  {name}");
        assert!(
            (1..100_000).contains(&nanoseconds),
            "{name}: {nanoseconds} ns"
        );
    }
    Ok(())
}

/// Linux 6.1's verifier walks through 443,000 in steer, that of 6.12 through 149,000.
const VERIFIED_MAX: u32 = 500_000;
