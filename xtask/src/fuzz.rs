//! Runs the fuzz targets of `tests/fuzz` under libFuzzer, with the stable compiler: it puts the
//! coverage in by itself when asked to, so that neither nightly nor cargo-fuzz is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde_json::Value;

use crate::shell::{cargo, output, root, say, step};
use crate::{compile, setup};

#[derive(Args)]
pub(crate) struct Flags {
    /// Run only targets whose name contains one of these.
    targets: Vec<String>,
    /// Seconds of each target.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
}

/// Builds the targets, and runs each for a while; an error tells which found something.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    setup::run(setup::Scope::Build)?;
    let is_asked_for = |target: &&Target| {
        let mut names = flags.targets.iter();
        flags.targets.is_empty() || names.any(|name| target.name.contains(name.as_str()))
    };
    let targets = build()?;
    let mut found = Vec::new();
    let mut count = 0;
    for target in targets.iter().filter(is_asked_for) {
        count += 1;
        if let Err(error) = target.run(flags.seconds) {
            say(&format!("    {error:#}"));
            found.push(target.name.as_str());
        }
    }
    if count == 0 {
        bail!("no fuzz target matches");
    }
    if !found.is_empty() {
        bail!("something was found by {}", found.join(", "));
    }
    Ok(())
}

/// A fuzz target, built.
pub(crate) struct Target {
    pub(crate) name: String,
    executable: PathBuf,
}

/// Builds all targets.
pub(crate) fn build() -> Result<Vec<Target>> {
    let directory = compile::target().join("fuzz");
    let manifest = root().join(FUZZ).join("Cargo.toml");
    let compiler = output(Command::new("rustc").arg("-vV")).context("rustc -vV failed")?;
    let host = compiler
        .lines()
        .find_map(|line| line.strip_prefix("host: "));
    let mut compile = cargo();
    // Flags of a named target reach no build script.
    compile.args(["build", "--release", "--locked", "--bins"]);
    compile.args(["--target", host.context("rustc names no host")?]);
    compile.arg("--manifest-path").arg(&manifest);
    compile.arg("--target-dir").arg(&directory);
    compile.args(["--message-format", "json-render-diagnostics"]);
    compile.env("CARGO_ENCODED_RUSTFLAGS", FLAGS.join("\x1f"));
    say("==> build the fuzz targets");
    let built = compile.stderr(Stdio::inherit()).output();
    let built = built.context("failed to start cargo")?;
    if !built.status.success() {
        bail!("the fuzz targets can't be built");
    }
    let mut targets = Vec::new();
    for line in String::from_utf8_lossy(&built.stdout).lines() {
        let message: Value = serde_json::from_str(line).context("cargo wrote no JSON")?;
        let name = message["target"]["name"].as_str();
        if let (Some(name), Some(executable)) = (name, message["executable"].as_str()) {
            targets.push(Target {
                name: name.to_owned(),
                executable: executable.into(),
            });
        }
    }
    targets.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(targets)
}

impl Target {
    /// Runs it on what earlier runs found interesting, on its seeds, and on what comes of them.
    pub(crate) fn run(&self, seconds: u32) -> Result<()> {
        let directory = compile::target().join("fuzz");
        let corpus = directory.join("corpus").join(&self.name);
        let findings = directory.join("findings").join(&self.name);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&findings)?;
        let log = directory.join(format!("{}.log", self.name));
        let mut fuzz = Command::new(&self.executable);
        fuzz.arg(format!("-max_total_time={seconds}"));
        // Slower than anything should be, on a slow machine too.
        fuzz.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1"]);
        fuzz.arg(format!("-artifact_prefix={}/", findings.display()));
        fuzz.arg(&corpus);
        let seeds = root().join(FUZZ).join("seeds").join(&self.name);
        fuzz.args(seeds.exists().then_some(seeds));
        fuzz.stderr(fs::File::create(&log)?);
        let what = format!("fuzz {} for {seconds} s", self.name);
        if step(&what, &mut fuzz).is_err() {
            bail!(
                "{} found something; see {} and {}",
                self.name,
                log.display(),
                findings.display()
            );
        }
        say(&format!("    {} runs", runs(&log).unwrap_or_default()));
        Ok(())
    }
}

/// How often the target ran, as libFuzzer says at its end.
fn runs(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let mut lines = text.lines();
    let count = lines.find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    Some(count.trim().to_owned())
}

const FUZZ: &str = "tests/fuzz";

/// What cargo-fuzz asks of the compiler, without the sanitizers, which are nightly's.
const FLAGS: [&str; 9] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "--cfg=fuzzing",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];
