//! Filters cargo's output: removes the build script's progress lines, which are no warnings.
//!
//! The build script of `ingress-userspace` builds the eBPF object with a cargo of its own, whose
//! lines it can only hand on as warnings; cargo repeats them at each build, also when nothing is
//! built.

use std::io::{BufRead as _, BufReader};
use std::process::{ChildStderr, Command, Stdio};

use anyhow::Result;

use crate::shell::{say, timed_step};

/// Runs a build to its end, with a line before and the time after.
pub(crate) fn build_step(what: &str, command: &mut Command) -> Result<()> {
    timed_step(what, command, |command| {
        let mut child = command.stderr(Stdio::piped()).spawn()?;
        if let Some(stderr) = child.stderr.take() {
            show(stderr);
        }
        child.wait()
    })
}

/// Shows what a build prints to standard error, until it ends.
pub(crate) fn show(stderr: ChildStderr) {
    let mut lines = Lines::default();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Some(line) = lines.shown(&line) {
            say(line);
        }
    }
}

/// The lines of one build.
#[derive(Default)]
struct Lines {
    /// Whether the crate with the eBPF object is built, and not only looked at.
    is_built: bool,
}

impl Lines {
    /// A line as it is shown; `None` if it says nothing new.
    fn shown<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        if line.trim_start().starts_with(COMPILING) {
            self.is_built = true;
        }
        let Some(rest) = line.strip_prefix(WARNING) else {
            return Some(line);
        };
        // After the version of the crate.
        let (_, text) = rest.split_once(": ")?;
        self.is_built.then_some(text)
    }
}

const COMPILING: &str = "Compiling ingress-userspace ";
const WARNING: &str = "warning: ingress-userspace@";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_ebpf_build_are_shown_without_a_prefix() {
        let mut lines = Lines::default();
        let build = "   Compiling ingress-userspace v0.1.0 (/src)";
        assert_eq!(lines.shown(build), Some(build));
        let nested = "warning: ingress-userspace@0.1.0:    Compiling ingress-ebpf v0.1.0";
        assert_eq!(
            lines.shown(nested),
            Some("   Compiling ingress-ebpf v0.1.0")
        );
        let warning = "warning: unused variable: `x`";
        assert_eq!(lines.shown(warning), Some(warning));
    }

    #[test]
    fn lines_of_an_earlier_build_are_not_repeated() {
        let mut lines = Lines::default();
        let repeated = "warning: ingress-userspace@0.1.0:     Finished `release` profile";
        assert_eq!(lines.shown(repeated), None);
        assert_eq!(
            lines.shown("    Finished `dev` profile"),
            Some("    Finished `dev` profile")
        );
    }
}
