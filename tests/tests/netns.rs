//! The datapath on real network namespaces: what a client, a pod and the host's firewall see.

mod netns {
    mod bond;
    mod changes;
    mod dedicated;
    mod denied;
    mod flood;
    mod handover;
    mod lifecycle;
    mod metrics;
    mod neighbours;
    mod next_hops;
    mod overlay;
    mod paths;
    mod pods;
    mod services;
    mod shortcut;
    mod sockets;
    mod sources;
}

use std::path::PathBuf;

use anyhow::Result;
use ingress_tests::daemon::{Daemon, Running};
use ingress_tests::manifest::Manifest;
use ingress_tests::rig::{Options, POD1_V4, POD2_V4, POD3_V4, Rig};

/// A rig with Sluice on its edge node. Fields drop in order: the daemon goes first.
struct Scene {
    sluice: Running,
    daemon: Daemon,
    manifests: PathBuf,
    rig: Rig,
}

impl Scene {
    /// Serves `near.test` by the pods of the edge node and `far.test` by the other node's.
    fn set() -> Result<Self> {
        Self::set_with(|daemon| daemon)
    }

    fn set_with(change: impl FnOnce(Daemon) -> Daemon) -> Result<Self> {
        Self::set_on(Rig::build(Options::from_env()?)?, change)
    }

    fn set_on(rig: Rig, change: impl FnOnce(Daemon) -> Daemon) -> Result<Self> {
        Self::serve(rig, &near_and_far(), change)
    }

    fn serve(rig: Rig, served: &Manifest, change: impl FnOnce(Daemon) -> Daemon) -> Result<Self> {
        let manifests = rig.path("manifests");
        served.save(&manifests)?;
        let daemon = Daemon::new(&rig, "sluice", &manifests).with("--datapath=netns");
        let daemon = change(daemon);
        let sluice = daemon.start(&rig.edge)?;
        Ok(Self {
            sluice,
            daemon,
            manifests,
            rig,
        })
    }
}

fn near_and_far() -> Manifest {
    Manifest::default()
        .serve("near.test", &[POD1_V4, POD2_V4])
        .serve("far.test", &[POD3_V4])
}
