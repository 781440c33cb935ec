//! The state of the daemon as `sluice status` shows it.

use std::net::IpAddr;

use serde::Serialize;

use crate::control::{Problem, Summary};
use crate::datapath;
use crate::proxy::{ProbedBackend, WorkerSnapshot};

/// Everything that `sluice status` tells.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Version of the daemon.
    pub version: &'static str,
    /// Its process.
    pub pid: u32,
    /// `starting` before the first configuration is served, `ready`, or `draining` near the end.
    pub state: &'static str,
    /// When it started, in RFC 3339.
    pub started_at: String,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// CPU time that it has taken in seconds; 0 where `/proc` cannot be read.
    pub cpu_seconds: f64,
    /// Its memory in bytes; 0 where `/proc` cannot be read.
    pub resident_bytes: u64,
    /// The generation published last; each worker tells which it serves.
    pub generation: u64,
    /// What is published, in numbers.
    pub config: Summary,
    /// How packets reach the workers.
    pub datapath: DatapathStatus,
    /// The addresses that clients reach this node by.
    pub frontends: Vec<FrontendStatus>,
    /// The workers.
    pub workers: Vec<WorkerSnapshot>,
    /// The backends whose endpoints are probed (`health-check`).
    pub health_checks: Vec<ProbedBackend>,
    /// Keys that restrict access and are ignored all the same, as `--ignore-annotation` says.
    pub ignored_annotations: Vec<String>,
    /// What users can mend.
    pub problems: Vec<Problem>,
}

/// An address that clients reach this node by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrontendStatus {
    /// The address.
    pub address: IpAddr,
    /// Its ports; all that are listened on where there are none.
    pub ports: Vec<u16>,
    /// The device that has it, the flag that names it, or the Service that it was adopted from.
    pub given_by: String,
    /// Whether eBPF steers its packets; if not, kube-proxy and the host carry them.
    pub is_steered: bool,
}

impl From<&datapath::FrontendAddress> for FrontendStatus {
    fn from(known: &datapath::FrontendAddress) -> Self {
        Self {
            address: known.address,
            ports: Vec::new(),
            given_by: known.given_by.clone(),
            is_steered: true,
        }
    }
}

/// How packets reach the workers.
#[derive(Clone, Debug, Serialize)]
pub struct DatapathStatus {
    /// `netns` or `host`.
    pub mode: &'static str,
    /// Why it is `host`, where it is.
    pub reason: Option<String>,
    /// The process that has the datapath, where there is one.
    pub helper_pid: Option<u32>,
    /// Devices, counters and direct endpoints.
    #[serde(flatten)]
    pub state: datapath::Status,
}
