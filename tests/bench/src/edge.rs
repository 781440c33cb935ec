//! The edge node of suites that compare settings of the daemon.

use std::path::PathBuf;

use anyhow::Result;

use ingress_tests::demo::Programs;
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, POD1_V4, POD2_V4, Rig};

/// Builds an edge node without a daemon, and the directory of manifests that serve [`HOST`] by its two
/// pods. `has_rules`: the node has kube-proxy's rules and conntrack.
pub(super) fn build(programs: &Programs, has_rules: bool) -> Result<(Rig, PathBuf)> {
    let rig = Rig::build(Options {
        services: 0,
        has_rules,
        origin: programs.origin.clone(),
        sluice: programs.sluice.clone(),
    })?;
    rig.calm()?;
    let manifests = rig.path("manifests");
    let served = Manifest::default().serve(HOST, &[POD1_V4, POD2_V4]);
    served.save(&manifests)?;
    Ok((rig, manifests))
}

/// The host that the node serves.
pub(super) const HOST: &str = "bench.test";
