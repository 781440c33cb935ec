//! Counts instructions: programs under valgrind's callgrind.
//!
//! Unlike times, counts hardly depend on what else the machine does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::host::{Process, run};

/// A program that runs under callgrind and is not counted yet.
#[derive(Debug)]
pub struct Counted {
    process: Process,
    totals: PathBuf,
}

/// User-space instructions of a program that runs to its end.
pub fn count(program: &Path, arguments: &[&str], directory: &Path) -> Result<u64> {
    let totals = directory.join("callgrind.out");
    let mut command = callgrind(&totals);
    run(command.arg(program).args(arguments))?;
    read(&totals)
}

impl Counted {
    /// Starts a program whose instructions do not count before [`count`](Self::count).
    pub fn start(program: &Path, arguments: &[String], directory: &Path) -> Result<Self> {
        let totals = directory.join("callgrind.out");
        let mut command = callgrind(&totals);
        command
            .arg("--instr-atstart=no")
            .arg(program)
            .args(arguments);
        let process = Process::spawn(command, &directory.join("program.log"))?;
        Ok(Self { process, totals })
    }

    /// User-space instructions that it takes while `work` is done. It ends then.
    pub fn count(self, work: impl FnOnce() -> Result<()>) -> Result<u64> {
        self.control("on")?;
        work()?;
        self.control("off")?;
        let Self {
            mut process,
            totals,
        } = self;
        run(Command::new("kill").arg(process.id().to_string()))?;
        process.wait()?;
        read(&totals)
    }

    fn control(&self, instrumentation: &str) -> Result<()> {
        let id = self.process.id().to_string();
        run(Command::new("callgrind_control").args(["-i", instrumentation, &id]))?;
        Ok(())
    }
}

fn callgrind(totals: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command.args(["--quiet", "--tool=callgrind"]);
    command.arg(format!("--callgrind-out-file={}", totals.display()));
    command
}

fn read(totals: &Path) -> Result<u64> {
    let text = fs::read_to_string(totals)
        .with_context(|| format!("callgrind wrote no `{}`", totals.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let count = line.context("callgrind wrote no totals")?.trim().parse()?;
    ensure!(count > 0, "callgrind counted nothing");
    Ok(count)
}
