//! How the endpoints of a backend are probed.

use std::num::NonZeroU32;
use std::sync::Arc;

/// Probes of each endpoint of a backend. An endpoint that fails them gets no requests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HealthCheck {
    /// What is sent.
    pub probe: Probe,
    /// Seconds from the start of a probe to the start of the next.
    pub interval: NonZeroU32,
    /// Seconds that a probe may take.
    pub timeout: NonZeroU32,
    /// Passed probes in a row after which a failing endpoint gets requests again.
    pub healthy_threshold: NonZeroU32,
    /// Failed probes in a row after which an endpoint gets none.
    pub unhealthy_threshold: NonZeroU32,
}

/// What a probe sends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Probe {
    /// Nothing: the connection is enough.
    Tcp,
    /// A request in the protocol of the backend.
    Http(HttpProbe),
}

/// A request that probes an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HttpProbe {
    /// Path and maybe a query: what a request target may hold.
    pub path: Arc<str>,
    /// The host that it names; `None`: the address of the endpoint.
    pub host: Option<Arc<str>>,
    /// The statuses of a healthy endpoint, each range with its first and last.
    pub statuses: Box<[(u16, u16)]>,
}

impl HttpProbe {
    /// Whether a healthy endpoint answers with this status.
    pub fn expects(&self, status: u16) -> bool {
        let mut ranges = self.statuses.iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&status))
    }
}
