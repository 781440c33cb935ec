//! Sluice as its users run it: what `deploy/kustomize/base` has, as its own service account.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Cluster;

impl Cluster {
    /// Installs Sluice with these flags, which take the place of those of the manifests, makes its
    /// class the default, and waits until its pods are ready.
    pub fn install_sluice(&self, flags: &[&str]) -> Result<()> {
        let base = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kustomize/base");
        let mut manifests = self
            .plane
            .kubectl(&["kustomize", &base.to_string_lossy()])?;
        for flag in flags {
            let name = flag.split('=').next().unwrap_or(flag);
            let is_of_flag = |line: &str| line.trim_start().starts_with(&format!("- {name}="));
            let others = manifests.lines().filter(|line| !is_of_flag(line));
            manifests = others.collect::<Vec<_>>().join("\n");
            let first = manifests.find(FIRST_ARGUMENT);
            let first = first.context("the manifests run something else")?;
            let argument = format!("\n        - {flag}");
            manifests.insert_str(first + FIRST_ARGUMENT.len(), &argument);
        }
        self.plane.apply(&manifests)?;
        self.plane
            .kubectl(&["annotate", "ingressclass", "sluice", DEFAULT_CLASS])?;
        let status = [
            "rollout",
            "status",
            "daemonset/sluice",
            "--timeout=60s",
            NAMESPACE,
        ];
        self.plane.kubectl(&status).map(drop)
    }

    /// The pod of Sluice on a node.
    pub fn sluice_pod(&self, node: &str) -> Result<String> {
        let on_node = format!("--field-selector=spec.nodeName={node},status.phase=Running");
        let names = self
            .plane
            .kubectl(&["get", "pods", NAMESPACE, &on_node, "--output=name"])?;
        let Some(name) = names.trim().strip_prefix("pod/") else {
            bail!("no pod of Sluice runs on `{node}`");
        };
        Ok(name.to_owned())
    }

    /// What `sluice status` tells on a node.
    pub fn sluice_status(&self, node: &str) -> Result<Value> {
        let pod = self.sluice_pod(node)?;
        let status = self.exec(
            "sluice-system",
            &pod,
            &["/sluice", "status", "--output=json"],
        )?;
        Ok(serde_json::from_str(&status)?)
    }
}

const NAMESPACE: &str = "--namespace=sluice-system";
const FIRST_ARGUMENT: &str = "      - args:\n        - run";
const DEFAULT_CLASS: &str = "ingressclass.kubernetes.io/is-default-class=true";
