//! Where the programs of the control plane are.

use std::env;
use std::path::PathBuf;

use anyhow::{Context as _, Result};

/// Directories with `etcd`, `kube-apiserver` and their kin; the first that has a program wins.
#[derive(Clone, Debug)]
pub struct Programs {
    directories: Vec<PathBuf>,
}

impl Programs {
    /// Those of `KUBEBUILDER_ASSETS`, then those that `cargo xtask` has built.
    pub fn from_env() -> Self {
        let directories = ["KUBEBUILDER_ASSETS", "SLUICE_CLUSTER_BIN"];
        Self {
            directories: directories
                .iter()
                .filter_map(env::var_os)
                .map(PathBuf::from)
                .collect(),
        }
    }

    /// The path of one.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let mut candidates = self
            .directories
            .iter()
            .map(|directory| directory.join(name));
        candidates
            .find(|path| path.is_file())
            .with_context(|| format!("no `{name}`: run this by `cargo xtask`, which builds it"))
    }
}
