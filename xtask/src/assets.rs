//! The programs of the test cluster, built from the Go module proxy into a cache outside the
//! checkout.
//!
//! `tests/cluster/go.mod` pins their versions; the cache is keyed by them, so a second run only looks
//! whether the files are there. `KUBEBUILDER_ASSETS` comes first, for whatever it has.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::go::go;
use crate::setup;
use crate::shell::{cache, output, root, step};

/// Builds what is missing, and gives the directory of what was built.
pub(crate) fn ensure() -> Result<PathBuf> {
    let pins = fs::read_to_string(module().join("go.mod")).context("failed to read go.mod")?;
    let kubernetes = pinned(&pins, KUBERNETES)?;
    let etcd = pinned(&pins, ETCD)?;
    let directory = cache()?.join(format!("cluster/kubernetes-{kubernetes}-etcd-{etcd}/bin"));
    let given = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
    let is_there = |name: &str| {
        let given = given.iter().any(|given| given.join(name).is_file());
        given || directory.join(name).is_file()
    };
    let missing: Vec<_> = PROGRAMS
        .iter()
        .filter(|(name, _)| !is_there(name))
        .collect();
    if missing.is_empty() {
        return Ok(directory);
    }
    fs::create_dir_all(&directory)?;
    let go = go()?;
    for (count, (name, package)) in (1..).zip(&missing) {
        let what = format!("build {name} ({count} of {})", missing.len());
        let build = Build {
            module: module(),
            package,
            link_flags: link_flags(kubernetes)?,
        };
        build.run(&go, &what, &directory.join(name))?;
    }
    Ok(directory)
}

/// Builds helm unless it is in the cache, and gives its path.
pub(crate) fn helm() -> Result<PathBuf> {
    program("helm", HELM, &format!("{HELM}/cmd/helm"))
}

/// Builds oauth2-proxy unless it is in the cache, and gives its path.
pub(crate) fn oauth2_proxy() -> Result<PathBuf> {
    program("oauth2-proxy", OAUTH2_PROXY, OAUTH2_PROXY)
}

/// Builds Pebble unless it is in the cache, and gives its path.
pub(crate) fn pebble() -> Result<PathBuf> {
    program("pebble", PEBBLE, &format!("{PEBBLE}/cmd/pebble"))
}

/// Installs what drives the browser in tests of the dashboard, unless these versions are in the cache, and
/// gives the directory of its packages.
pub(crate) fn browser_tests() -> Result<PathBuf> {
    setup::install_packages(&[("chromium", "chromium"), ("node", "nodejs"), ("npm", "npm")])?;
    let source = root().join("tests/dashboard");
    let lock = fs::read(source.join("package-lock.json")).context("failed to read the lockfile")?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&lock);
    let directory = cache()?.join(format!("dashboard-{:016x}", hasher.finish()));
    if directory.join(INSTALLED).is_file() {
        return Ok(directory);
    }
    fs::create_dir_all(&directory)?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), directory.join(file))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    install.current_dir(&directory);
    step(
        "install playwright-core, axe-core and typescript",
        &mut install,
    )?;
    fs::write(directory.join(INSTALLED), "")?;
    Ok(directory)
}

/// The file that says that an installation has come to its end.
const INSTALLED: &str = "installed";

/// Builds the program of this name unless it is in the cache, and gives its path. The go.mod in the
/// directory of its name below `tests` pins the version of the module.
fn program(name: &str, module: &str, package: &str) -> Result<PathBuf> {
    let directory = root().join("tests").join(name);
    let pins = fs::read_to_string(directory.join("go.mod")).context("failed to read go.mod")?;
    let version = pinned(&pins, module)?;
    let program = cache()?.join(format!("{name}/{version}/{name}"));
    if !program.is_file() {
        fs::create_dir_all(program.with_file_name(""))?;
        let build = Build {
            module: directory,
            package,
            link_flags: "-s -w".to_owned(),
        };
        build.run(&go()?, &format!("build {name}"), &program)?;
    }
    Ok(program)
}

/// Builds the clients that tests play, unless this version is in the cache, and gives their path.
pub(crate) fn clients() -> Result<PathBuf> {
    own_program("clients", "build the clients of tests")
}

/// Builds dex with the users of a test, unless this version is in the cache, and gives its path.
pub(crate) fn dex() -> Result<PathBuf> {
    own_program("dex", "build dex, an OpenID provider")
}

/// Builds cert-manager unless this version is in the cache, and gives its path; `crds` beside it has its
/// definitions of custom resources.
pub(crate) fn cert_manager() -> Result<PathBuf> {
    let program = own_program("cert-manager", "build cert-manager")?;
    let crds = program.with_file_name("crds");
    if !crds.is_dir() {
        let mut list = Command::new(go()?);
        list.current_dir(root().join("tests/cert-manager"));
        list.args(["list", "-m", "-f", "{{.Dir}}", CERT_MANAGER]);
        list.env("GOWORK", "off").env_remove("GOFLAGS");
        let directory = output(&mut list).context("failed to find cert-manager's files")?;
        let temporary = crds.with_extension(format!("{}.tmp", process::id()));
        fs::create_dir_all(&temporary)?;
        for entry in fs::read_dir(Path::new(directory.trim()).join("deploy/crds"))? {
            let path = entry?.path();
            if let Some(name) = path
                .file_name()
                .filter(|_| path.extension() == Some("yaml".as_ref()))
            {
                // The module cache is read-only, and so would be a copy.
                fs::write(temporary.join(name), fs::read(&path)?)?;
            }
        }
        fs::rename(&temporary, &crds)?;
    }
    Ok(program)
}

/// Builds the server that answers `kubectl exec` on nodes, unless this version is in the cache, and gives its path.
pub(crate) fn kubelet() -> Result<PathBuf> {
    own_program(
        "kubelet",
        "build the server that answers `kubectl exec` on nodes",
    )
}

/// Builds the program that prints the seccomp profile of container runtimes, unless this version is in the
/// cache, and gives its path.
pub(crate) fn seccomp() -> Result<PathBuf> {
    own_program("seccomp", "build the seccomp profile of container runtimes")
}

/// Builds our program in the directory of this name below `tests`.
fn own_program(name: &str, what: &str) -> Result<PathBuf> {
    let module = root().join("tests").join(name);
    let mut version = DefaultHasher::new();
    let files =
        fs::read_dir(&module).with_context(|| format!("failed to read {}", module.display()))?;
    let mut files = files
        .map(|file| Ok(file?.path()))
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    for file in files {
        let content = fs::read(&file);
        content
            .with_context(|| format!("failed to read {}", file.display()))?
            .hash(&mut version);
    }
    let program = cache()?.join(format!("{name}/{:016x}/{name}", version.finish()));
    if !program.is_file() {
        fs::create_dir_all(program.with_file_name(""))?;
        let build = Build {
            module,
            package: ".",
            link_flags: "-s -w".to_owned(),
        };
        build.run(&go()?, what, &program)?;
    }
    Ok(program)
}

/// One program to build.
struct Build<'a> {
    /// Directory of the go.mod that pins it.
    module: PathBuf,
    package: &'a str,
    link_flags: String,
}

impl Build<'_> {
    /// Builds it beside its place, then moves it there: what is in the cache is whole.
    fn run(&self, go: &Path, what: &str, program: &Path) -> Result<()> {
        let temporary = program.with_extension(format!("{}.tmp", process::id()));
        let mut build = Command::new(go);
        build
            .current_dir(&self.module)
            .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly"])
            .args(["-ldflags", &self.link_flags, "-o"])
            .arg(&temporary)
            .arg(self.package);
        // No C compiler and no library of this machine has a part in it.
        build
            .env("CGO_ENABLED", "0")
            .env("GOTOOLCHAIN", "local")
            .env("GOWORK", "off")
            .env_remove("GOFLAGS");
        step(what, &mut build)?;
        fs::rename(&temporary, program)
            .with_context(|| format!("failed to put {} in place", program.display()))
    }
}

/// Versions as the release's own build writes them: components compare them with each other's.
fn link_flags(kubernetes: &str) -> Result<String> {
    let mut numbers = kubernetes.trim_start_matches('v').split('.');
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else {
        bail!("`{kubernetes}` is no version of Kubernetes");
    };
    let mut flags = String::from("-s -w");
    for package in [
        "k8s.io/component-base/version",
        "k8s.io/client-go/pkg/version",
    ] {
        for (name, value) in [
            ("gitVersion", kubernetes),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        ] {
            let _ = write!(flags, " -X {package}.{name}={value}");
        }
    }
    Ok(flags)
}

/// The version that a go.mod requires of a module.
fn pinned<'a>(pins: &'a str, module: &str) -> Result<&'a str> {
    let mut words = pins
        .lines()
        .map(|line| line.trim().trim_start_matches("require "));
    words
        .find_map(|line| line.strip_prefix(module)?.strip_prefix(' '))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("its go.mod does not require {module}"))
}

fn module() -> PathBuf {
    root().join("tests/cluster")
}

const KUBERNETES: &str = "k8s.io/kubernetes";
const HELM: &str = "helm.sh/helm/v3";
const PEBBLE: &str = "github.com/letsencrypt/pebble/v2";
const OAUTH2_PROXY: &str = "github.com/oauth2-proxy/oauth2-proxy/v7";
const CERT_MANAGER: &str = "github.com/cert-manager/cert-manager";
const ETCD: &str = "go.etcd.io/etcd/server/v3";
/// Name and package of each.
const PROGRAMS: [(&str, &str); 6] = [
    ("etcd", ETCD),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    (
        "kube-controller-manager",
        "k8s.io/kubernetes/cmd/kube-controller-manager",
    ),
    ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
    ("kube-proxy", "k8s.io/kubernetes/cmd/kube-proxy"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_those_of_go_mod() -> Result<()> {
        let pins = "tool (\n\tk8s.io/kubernetes/cmd/kubectl\n)\nrequire (\n\tk8s.io/kubernetes v1.36.3\n)\n";
        assert_eq!(pinned(pins, KUBERNETES)?, "v1.36.3");
        assert!(pinned(pins, ETCD).is_err());
        assert!(link_flags("v1.36.3")?.contains("version.gitMinor=36"));
        Ok(())
    }
}
