//! The verb `dist`: everything that a release hands out, in `target/dist`.

mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::image::{self, VERSION};
use crate::shell::{output, root, say, step};
use crate::{assets, compile};

#[derive(Args)]
pub(crate) struct Flags {
    #[command(flatten)]
    build: image::Build,
}

/// Makes all artefacts anew, and their checksums last.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    let directory = compile::target().join("dist");
    if directory.exists() {
        fs::remove_dir_all(&directory)?;
    }
    fs::create_dir_all(&directory)?;
    let binary = directory.join(format!("sluice-{VERSION}-{}", std::env::consts::ARCH));
    flags.build.stripped(&binary)?;
    image::pack(&binary, &directory.join(image::file_name()))?;
    chart(&directory)?;
    say("==> write manual pages and completions");
    manual(&binary, &directory.join("man"))?;
    completions(&binary, &directory.join("completions"))?;
    say("==> write the SBOM");
    let sbom = directory.join(format!("sluice-{VERSION}.cdx.json"));
    fs::write(sbom, sbom::of_release()?)?;
    checksums(&directory)?;
    for file in files(&directory)? {
        say(&format!("    {}", directory.join(file).display()));
    }
    Ok(())
}

/// Packs the chart, and has helm check it.
fn chart(directory: &Path) -> Result<()> {
    let helm = assets::helm()?;
    let chart = root().join("deploy/helm/sluice");
    let mut lint = Command::new(&helm);
    step(
        "check the chart",
        lint.args(["lint", "--quiet"]).arg(&chart),
    )?;
    let mut package = Command::new(&helm);
    package.args(["package", "--destination"]).arg(directory);
    step("pack the chart", package.arg(&chart))
}

/// Writes a page for the command and for each of its verbs.
fn manual(binary: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    let page = said(binary, &["man"])?;
    let verbs = verbs_of(&page);
    if verbs.is_empty() {
        bail!("the manual page of sluice names no verb");
    }
    fs::write(directory.join("sluice.1"), &page)?;
    for verb in verbs {
        let page = said(binary, &["man", &verb])?;
        fs::write(directory.join(format!("sluice-{verb}.1")), page)?;
    }
    Ok(())
}

/// The verbs that a page lists, as `sluice\-status(1)`.
fn verbs_of(page: &str) -> Vec<String> {
    let names = page.lines().filter_map(|line| {
        let name = line.strip_prefix("sluice\\-")?.strip_suffix("(1)")?;
        Some(name.replace("\\-", "-"))
    });
    names.filter(|verb| verb != "help").collect()
}

fn completions(binary: &Path, directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)?;
    for (shell, file) in SHELLS {
        let script = said(binary, &["completion", shell])?;
        fs::write(directory.join(file), script)?;
    }
    Ok(())
}

fn said(binary: &Path, arguments: &[&str]) -> Result<String> {
    let text = output(Command::new(binary).args(arguments));
    text.with_context(|| format!("{} {arguments:?} failed", binary.display()))
}

/// Writes the SHA-256 of every file, as `sha256sum --check` reads them.
fn checksums(directory: &Path) -> Result<()> {
    let mut sums = Command::new("sha256sum");
    sums.current_dir(directory).args(files(directory)?);
    let sums = output(&mut sums).context("sha256sum failed")?;
    Ok(fs::write(directory.join("SHA256SUMS"), sums)?)
}

/// All files below a directory, relative to it.
fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut open = vec![directory.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next)? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
            } else {
                found.push(path.strip_prefix(directory)?.to_owned());
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Shells, and the file name that each looks for.
const SHELLS: [(&str, &str); 4] = [
    ("bash", "sluice.bash"),
    ("fish", "sluice.fish"),
    ("powershell", "sluice.ps1"),
    ("zsh", "_sluice"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_are_those_of_the_page() {
        let page = ".SH SUBCOMMANDS\n.TP\nsluice\\-run(1)\nServe\n.TP\nsluice\\-log\\-level(1)\n\
             .TP\nsluice\\-help(1)\n";
        assert_eq!(verbs_of(page), ["run", "log-level"]);
    }
}
