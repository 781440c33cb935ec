//! The software bill of materials (`CycloneDX` 1.6): the crates of the binary and of the eBPF programs in it,
//! and the Debian packages of which the image has files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::image::{PACKAGES, VERSION};
use crate::shell::{cargo, output, root};

/// The document as text.
pub(super) fn of_release() -> Result<String> {
    let mut trees = tree(&["--package=ingress-userspace"])?;
    trees.push_str(&tree(&["--package=ingress-ebpf", EBPF_TARGET])?);
    let lock = fs::read_to_string(root().join("Cargo.lock"))?;
    let mut components = crates(&trees, &checksums(&lock))?;
    for package in PACKAGES {
        components.push(debian(package)?);
    }
    Ok(serde_json::to_string_pretty(&document(&components))?)
}

/// The crates that are linked into a package.
fn tree(package: &[&str]) -> Result<String> {
    let mut tree = cargo();
    tree.args(["tree", "--locked", "--prefix=none"])
        .args(["--edges=normal,no-proc-macro", "--format={p}\t{l}"]);
    let tree = output(tree.args(package));
    tree.with_context(|| format!("`cargo tree` failed for {package:?}"))
}

fn document(components: &[Value]) -> Value {
    let licence = env!("CARGO_PKG_LICENSE");
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {
            "type": "application",
            "bom-ref": "sluice",
            "name": "sluice",
            "version": VERSION,
            "licenses": [{"expression": licence}],
        }},
        "components": components,
    })
}

/// A component for each line `NAME vVERSION (…)<tab>LICENCE` of `cargo tree`, once, without our own crates.
fn crates(tree: &str, checksums: &Checksums) -> Result<Vec<Value>> {
    let lines: BTreeSet<_> = tree
        .lines()
        .map(|line| line.trim_end_matches(" (*)"))
        .collect();
    let mut components = BTreeMap::new();
    for line in lines.into_iter().filter(|line| !line.is_empty()) {
        let (package, licence) = line.split_once('\t').context("a line of `cargo tree`")?;
        let mut words = package.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words.next().unwrap_or_default().trim_start_matches('v');
        // What has no checksum comes from this repository.
        let Some(checksum) = checksums.get(&(name.to_owned(), version.to_owned())) else {
            continue;
        };
        let purl = format!("pkg:cargo/{name}@{version}");
        let component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": name,
            "version": version,
            "purl": purl,
            "licenses": [{"expression": expression(licence)}],
            "hashes": [{"alg": "SHA-256", "content": checksum}],
        });
        components.insert(purl, component);
    }
    Ok(components.into_values().collect())
}

/// The licence by SPDX: old crates write `MIT/Apache-2.0`.
fn expression(licence: &str) -> String {
    licence.replace(" / ", "/").replace('/', " OR ")
}

fn debian(package: &str) -> Result<Value> {
    let mut query = Command::new("dpkg-query");
    let version = output(query.args(["--show", "--showformat=${Version}", package]));
    let version = version.with_context(|| format!("the package `{package}` is not installed"))?;
    let purl = format!("pkg:deb/debian/{package}@{}", version.replace('+', "%2B"));
    Ok(json!({
        "type": "library",
        "bom-ref": purl,
        "name": package,
        "version": version,
        "purl": purl,
    }))
}

/// The byte order makes no difference to what is linked.
const EBPF_TARGET: &str = "--target=bpfel-unknown-none";

/// SHA-256 by name and version.
type Checksums = BTreeMap<(String, String), String>;

/// The checksums of a Cargo.lock.
fn checksums(lock: &str) -> Checksums {
    let packages = lock.split("[[package]]").filter_map(|package| {
        let value = |name: &str| {
            let mut lines = package.lines();
            let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(" = \""));
            line.map(|line| line.trim_end_matches('"').to_owned())
        };
        Some(((value("name")?, value("version")?), value("checksum")?))
    });
    packages.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_have_a_purl_a_licence_and_a_checksum_once() -> Result<()> {
        let lock = "version = 4\n\n[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n\
             source = \"registry\"\nchecksum = \"00ff\"\n\n[[package]]\nname = \"ours\"\nversion = \"0.1.0\"\n";
        let tree = "ours v0.1.0 (/src/ours)\tApache-2.0\na v1.0.0\tMIT/Apache-2.0\n\n\
             a v1.0.0\tMIT/Apache-2.0 (*)\n";
        let components = crates(tree, &checksums(lock))?;
        assert_eq!(components.len(), 1, "{components:?}");
        assert_eq!(components[0]["purl"], "pkg:cargo/a@1.0.0");
        assert_eq!(components[0]["hashes"][0]["content"], "00ff");
        assert_eq!(
            components[0]["licenses"][0]["expression"],
            "MIT OR Apache-2.0"
        );
        Ok(())
    }

    #[test]
    fn release_has_the_crates_of_both_halves_and_none_of_the_tests() -> Result<()> {
        let document: Value = serde_json::from_str(&of_release()?)?;
        let components = document["components"].as_array().context("components")?;
        let names: BTreeSet<_> = components
            .iter()
            .filter_map(|one| one["name"].as_str())
            .collect();
        for name in ["tokio", "rustls", "aya-ebpf", "libc6"] {
            assert!(names.contains(name), "{name}");
        }
        for name in ["proptest", "serde_derive", "ingress-core"] {
            assert!(!names.contains(name), "{name}");
        }
        Ok(())
    }
}
