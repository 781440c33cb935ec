//! Go, for the programs of the test cluster: the one on the path, else one of our own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{self, Command};

use anyhow::{Context as _, Result, bail};

use crate::setup;
use crate::shell::{cache, output, step};

/// The path of a Go that is new enough; one is installed into our cache if there is none.
pub(crate) fn go() -> Result<PathBuf> {
    let on_path = output(Command::new("go").args(["env", "GOVERSION"]));
    if on_path.is_some_and(|version| is_enough(version.trim())) {
        return Ok("go".into());
    }
    let directory = cache()?.join(format!("go-{VERSION}"));
    if !directory.exists() {
        install(&directory)?;
    }
    Ok(directory.join("bin/go"))
}

/// Whether a version, `go1.26.8`, can build the cluster.
fn is_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches("go").split('.');
    let mut number = || numbers.next().and_then(|number| number.parse::<u32>().ok());
    match (number(), number()) {
        (Some(major), Some(minor)) => (major, minor) >= OLDEST,
        _ => false,
    }
}

/// Takes the toolchain from the Go module proxy, which serves toolchains as modules.
fn install(directory: &Path) -> Result<()> {
    let (platform, checksum) = match std::env::consts::ARCH {
        "x86_64" => ("linux-amd64", CHECKSUM_AMD64),
        "aarch64" => ("linux-arm64", CHECKSUM_ARM64),
        other => bail!("no Go {OLDEST:?} or newer on the path, and none is known for {other}"),
    };
    setup::install_packages(&[("curl", "curl"), ("unzip", "unzip")])?;
    let module = format!("v0.0.1-go{VERSION}.{platform}");
    let parent = directory.parent().context("the cache has no directory")?;
    fs::create_dir_all(parent)?;
    let temporary = parent.join(format!(".go-{}", process::id()));
    fs::create_dir_all(&temporary)?;
    let archive = temporary.join("go.zip");
    let url = format!("{PROXY}/golang.org/toolchain/@v/{module}.zip");
    let mut curl = Command::new("curl");
    curl.args([
        "--fail",
        "--silent",
        "--show-error",
        "--location",
        "--output",
    ])
    .arg(&archive)
    .arg(url);
    step(&format!("download Go {VERSION}"), &mut curl)?;
    let sum = output(Command::new("sha256sum").arg(&archive)).unwrap_or_default();
    if sum.split_whitespace().next() != Some(checksum) {
        bail!("{} is not what was expected: {sum}", archive.display());
    }
    let mut unzip = Command::new("unzip");
    unzip.arg("-q").arg(&archive).arg("-d").arg(&temporary);
    step(&format!("unpack Go {VERSION}"), &mut unzip)?;
    let unpacked = temporary.join(format!("golang.org/toolchain@{module}"));
    // Module archives carry no modes.
    for programs in ["bin", &format!("pkg/tool/{}", platform.replace('-', "_"))] {
        for entry in fs::read_dir(unpacked.join(programs))? {
            fs::set_permissions(entry?.path(), fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::rename(unpacked, directory).context("failed to put Go in place")?;
    Ok(fs::remove_dir_all(temporary)?)
}

const PROXY: &str = "https://proxy.golang.org";
/// What k8s.io/kubernetes asks for in its go.mod.
const OLDEST: (u32, u32) = (1, 26);
const VERSION: &str = "1.26.8";
const CHECKSUM_AMD64: &str = "30c2b1bf7dcc88d3eb0a1364e47ddd9128edb3110a30e8a0ef61cd5856b31de7";
const CHECKSUM_ARM64: &str = "02b36b6787b3ac767668f630e2998df45a3b1f9ffee08d1bf3ef6487cd658d99";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_go_is_not_enough() {
        assert!(is_enough("go1.26.0"));
        assert!(is_enough("go2.0"));
        assert!(!is_enough("go1.19.8"));
        assert!(!is_enough("devel"));
    }
}
