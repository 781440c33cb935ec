//! The files of the image: the binary, the libraries that it is linked with, and little else.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::setup;
use crate::shell::{output, root};

/// Puts the files of the image into a new directory.
pub(super) fn assemble(binary: &Path, directory: &Path) -> Result<()> {
    setup::install_packages(&[("update-ca-certificates", "ca-certificates")])?;
    add(binary, directory, "sluice")?;
    add(&root().join("LICENSE"), directory, "LICENSE")?;
    for library in libraries(binary)? {
        add_own(&library, directory)?;
    }
    add_own(CERTIFICATES, directory)?;
    for package in PACKAGES {
        add_own(&format!("/usr/share/doc/{package}/copyright"), directory)?;
    }
    for (name, content) in SETTINGS {
        fs::write(directory.join(name), content)?;
    }
    // Places of mounts: the root is read-only.
    for name in ["bpf", "dev", "proc", "run", "sys"] {
        fs::create_dir_all(directory.join(name))?;
    }
    Ok(())
}

/// Absolute paths of the shared libraries and of the loader.
fn libraries(binary: &Path) -> Result<Vec<String>> {
    let listed = output(Command::new("ldd").arg(binary));
    let listed = listed.with_context(|| format!("ldd cannot read {}", binary.display()))?;
    libraries_of(&listed)
}

/// The paths in the output of `ldd`: `NAME => PATH (ADDRESS)`, or `PATH (ADDRESS)` of the loader.
fn libraries_of(listed: &str) -> Result<Vec<String>> {
    let mut paths = Vec::new();
    for line in listed.lines() {
        if line.contains("not found") {
            bail!("a library is missing: {}", line.trim());
        }
        let path = line.split_whitespace().find(|word| word.starts_with('/'));
        paths.extend(path.map(str::to_owned));
    }
    Ok(paths)
}

/// Adds a file of this machine at the same place.
fn add_own(path: &str, directory: &Path) -> Result<()> {
    add(Path::new(path), directory, path.trim_start_matches('/'))
}

fn add(file: &Path, directory: &Path, name: &str) -> Result<()> {
    let target = directory.join(name);
    let parent = target.parent().context("a file has a directory")?;
    fs::create_dir_all(parent)?;
    let copied = fs::copy(file, &target);
    copied.with_context(|| format!("failed to copy {}", file.display()))?;
    Ok(())
}

/// For HTTPS endpoints outside of the cluster.
const CERTIFICATES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Debian packages of which the image has files: their licences go with them.
pub(crate) const PACKAGES: [&str; 3] = ["ca-certificates", "libc6", "libgcc-s1"];

/// The user and the group that run `--datapath host`, and where names are looked up.
const SETTINGS: [(&str, &str); 3] = [
    (
        "etc/passwd",
        "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n",
    ),
    ("etc/group", "root:x:0:\nnonroot:x:65532:\n"),
    ("etc/nsswitch.conf", "hosts: files dns\n"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loader_and_libraries_are_found_and_the_kernels_own_is_not() -> Result<()> {
        let listed = "\tlinux-vdso.so.1 (0x0000)\n\
             \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x0000)\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x0000)\n";
        assert_eq!(
            libraries_of(listed)?,
            [
                "/lib/x86_64-linux-gnu/libc.so.6",
                "/lib64/ld-linux-x86-64.so.2"
            ]
        );
        assert_eq!(libraries_of("\tstatically linked\n")?, [""; 0]);
        assert!(libraries_of("\tlibz.so.1 => not found\n").is_err());
        Ok(())
    }
}
