//! The main job, shown on an edge node out of network namespaces.
//!
//! `run` gives what happened as data; `render` makes a page of it for a person.

mod observe;
mod render;
mod stage;

use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;

pub use render::render;
pub use stage::{Stage, manifests_path};

use crate::rig;

/// Everything that the demo shows.
#[derive(Clone, Debug, Serialize)]
pub struct Demo {
    /// Whether every line is as it should be.
    pub ok: bool,
    /// Each request with what became of it.
    pub requests: Vec<RequestLine>,
    /// Entries that as many requests made in the edge node's connection tracking table.
    pub conntrack: Both<usize>,
    /// Requests that each of the two numbers is for.
    pub conntrack_requests: u64,
    /// The client's address as the pod was told it.
    pub source_ip: Both<String>,
    /// Packets that each program handled, by reason.
    pub programs: BTreeMap<String, BTreeMap<String, u64>>,
    /// What is not as it should be.
    pub faults: Vec<String>,
}

/// The NodePort path beside Sluice's.
#[derive(Clone, Debug, Serialize)]
pub struct Both<T> {
    /// Through kube-proxy's NodePort, its NAT, and a proxy pod.
    pub nodeport: T,
    /// Through Sluice.
    pub sluice: T,
}

/// One request and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLine {
    /// URL.
    pub url: String,
    /// The client that sent it.
    pub client: String,
    /// Status code.
    pub status: u16,
    /// HTTP version.
    pub http: String,
    /// The pod that answered, if one did.
    pub pod: Option<String>,
    /// The client's address as that pod was told it.
    pub client_ip: Option<String>,
    /// The path that its packets took: `netns` or `host`.
    pub datapath: String,
    /// Whether all of it is as it should be.
    pub ok: bool,
}

/// Where the demo's programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// The daemon.
    pub sluice: PathBuf,
    /// What pods run.
    pub origin: PathBuf,
}

/// Sends the demo's requests on a stage that stands.
pub fn run(stage: &Stage) -> Result<Demo> {
    let requests = observe::requests(stage)?;
    let (tracked, source_ip) = observe::both_paths(stage)?;
    let conntrack = Both {
        nodeport: tracked.nodeport.len(),
        sluice: tracked.sluice.len(),
    };
    let programs = observe::programs(stage)?;
    let mut faults: Vec<String> = requests
        .iter()
        .filter(|line| !line.ok)
        .map(|line| {
            format!(
                "request {} from {} is not as it should be",
                line.url, line.client
            )
        })
        .collect();
    if conntrack.sluice != 0 {
        faults.push(format!(
            "conntrack entries on Sluice's path: {}",
            tracked.sluice.join("; ")
        ));
    }
    if conntrack.nodeport == 0 {
        faults.push("the NodePort path made no conntrack entry: the comparison is void".into());
    }
    if source_ip.sluice != rig::CLIENT_V4 {
        faults.push(format!(
            "the pod was told {} as the client's address",
            source_ip.sluice
        ));
    }
    for program in ["guard", "steer", "return_path", "dispatch"] {
        if !programs.contains_key(program) {
            faults.push(format!("program {program} handled no packet"));
        }
    }
    Ok(Demo {
        ok: faults.is_empty(),
        requests,
        conntrack,
        conntrack_requests: observe::COMPARED_REQUESTS,
        source_ip,
        programs,
        faults,
    })
}
