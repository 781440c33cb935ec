//! The packages of Debian's kernels: found by apt with lists of our own, so that the machine's stay as
//! they are, and unpacked into the cache.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::Kernel;
use crate::shell::{output, step};

/// An unpacked kernel.
pub(super) struct Package {
    /// Where the package was unpacked.
    pub(super) root: PathBuf,
    /// Its version, as `uname -r` has it.
    pub(super) version: String,
}

impl Package {
    /// The kernel that an emulator boots.
    pub(super) fn image(&self) -> PathBuf {
        self.root.join(format!("boot/vmlinuz-{}", self.version))
    }
}

/// The newest kernel of its suite in the cache, which is downloaded if there is none.
pub(super) fn unpacked(kernel: Kernel, cache: &Path) -> Result<Package> {
    let place = cache.join(kernel.name());
    let root = place.join("root");
    if let Some(version) = version_in(&root) {
        return Ok(Package { root, version });
    }
    let apt = Apt::new(kernel, &place)?;
    let package = apt.newest()?;
    let unpacking = place.join("unpacking");
    let _ = fs::remove_dir_all(&unpacking);
    fs::create_dir_all(&unpacking)?;
    let mut download = apt.command("apt-get");
    download.current_dir(&unpacking);
    let what = format!("download Debian's {package}");
    step(&what, download.args(["download", "-qq", &package]))?;
    let archives = fs::read_dir(&unpacking)?.filter_map(Result::ok);
    let archives = archives.map(|entry| entry.path());
    let archive = archives
        .into_iter()
        .find(|path| path.extension().is_some_and(|name| name == "deb"))
        .with_context(|| format!("apt downloaded no {package}"))?;
    let mut unpack = Command::new("dpkg");
    step("unpack it", unpack.arg("-x").arg(&archive).arg(&unpacking))?;
    fs::remove_file(archive)?;
    let version = version_in(&unpacking).with_context(|| format!("{package} has no kernel"))?;
    let mut index = Command::new("depmod");
    step(
        "index its modules",
        index.arg("-b").arg(&unpacking).arg(&version),
    )?;
    // Under its name only when it is whole.
    fs::rename(&unpacking, &root)?;
    Ok(Package { root, version })
}

fn version_in(root: &Path) -> Option<String> {
    let mut names = fs::read_dir(root.join("boot"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.find_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
}

/// apt with one source and lists of its own.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(kernel: Kernel, place: &Path) -> Result<Self> {
        for directory in ["lists/partial", "archives/partial"] {
            fs::create_dir_all(place.join(directory))?;
        }
        let suite = match kernel {
            Kernel::V6_1 => "bookworm",
            Kernel::V6_12 => "bookworm-backports",
        };
        let source = format!("deb [signed-by={KEYRING}] {ARCHIVE} {suite} main\n");
        fs::write(place.join("sources.list"), source)?;
        let place = place.display();
        Ok(Self {
            options: vec![
                format!("Dir::Etc::SourceList={place}/sources.list"),
                "Dir::Etc::SourceParts=/dev/null".to_owned(),
                format!("Dir::State::Lists={place}/lists"),
                format!("Dir::Cache={place}"),
                // The user of downloads may not enter root's directories.
                "APT::Sandbox::User=root".to_owned(),
            ],
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }

    /// The package that Debian's `linux-image-amd64` stands for.
    fn newest(&self) -> Result<String> {
        let mut update = self.command("apt-get");
        step(
            "update the lists of kernels",
            update.args(["update", "-qq"]),
        )?;
        let mut depends = self.command("apt-cache");
        let depends = output(depends.args(["depends", "linux-image-amd64"]));
        depends
            .as_deref()
            .and_then(newest)
            .map(str::to_owned)
            .context("apt knows no linux-image-amd64")
    }
}

fn newest(depends: &str) -> Option<&str> {
    let names = depends
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    names
        .into_iter()
        .find(|name| name.starts_with("linux-image-"))
}

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const ARCHIVE: &str = "http://deb.debian.org/debian";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_kernel_is_what_the_metapackage_depends_on() {
        let depends = "linux-image-amd64\n  Depends: linux-image-6.1.0-50-amd64\n    x\n";
        assert_eq!(newest(depends), Some("linux-image-6.1.0-50-amd64"));
        assert_eq!(newest("linux-image-amd64\n"), None);
    }
}
