//! Sets the stage: the rig, Sluice on the edge node, and a proxy pod for the path of today.

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Programs;
use crate::daemon::{Daemon, Running};
use crate::rig::{Options, Rig};

/// The rig with both paths on it.
#[derive(Debug)]
pub struct Stage {
    /// The daemon on the edge node.
    pub sluice: Running,
    /// The same proxy without eBPF, in a pod behind a NodePort.
    pub proxy: Running,
    /// The rig; dropped last.
    pub rig: Rig,
}

impl Stage {
    /// Builds everything; `say` is told what is being done.
    pub fn set(programs: &Programs, prefix: &str, say: impl Fn(&str)) -> Result<Self> {
        say(&format!(
            "build an edge node with {SERVICES} Services' NAT rules, clients and pods"
        ));
        let options = Options {
            services: SERVICES,
            has_rules: true,
            origin: programs.origin.clone(),
            sluice: programs.sluice.clone(),
        };
        let rig = Rig::build_with_prefix(options, prefix)?;
        let manifests = manifests_path();
        say(&format!("sluice run --manifests {}", manifests.display()));
        let sluice = Daemon::new(&rig, "sluice", &manifests).with("--datapath=netns");
        let sluice = sluice.start(&rig.edge)?;
        say("the path of today: NodePort, kube-proxy's NAT, a proxy pod");
        let proxy = Daemon::new(&rig, "proxy", &manifests).with("--datapath=host");
        let proxy = proxy.start(&rig.proxy)?;
        Ok(Self { sluice, proxy, rig })
    }
}

/// The manifests that the demo serves, in the checkout that it was built from.
pub fn manifests_path() -> PathBuf {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    checkout.unwrap_or(Path::new(".")).join("deploy/demo")
}

const SERVICES: usize = 500;
