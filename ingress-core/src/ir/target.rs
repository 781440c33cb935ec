//! Where requests go.

use std::sync::Arc;

use super::{BackendKey, Canary};

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// To an endpoint of one of these backends, by their weights; 503 while it has none. Never
    /// empty.
    Backends(Arc<[WeightedBackend]>),
    /// To another URL.
    Redirect(Arc<Redirect>),
    /// Answered with this status and nothing else.
    Respond(u16),
    /// Answered with 503: the object asks for something that cannot be served, and a diagnostic
    /// says what.
    Unavailable,
}

impl Target {
    /// All requests to one backend.
    pub fn backend(key: Arc<BackendKey>) -> Self {
        let main = WeightedBackend {
            key,
            weight: 1,
            canary: None,
        };
        Self::Backends([main].into())
    }

    /// The backends that requests may go to.
    pub fn backends(&self) -> &[WeightedBackend] {
        match self {
            Self::Backends(backends) => backends,
            Self::Redirect(_) | Self::Respond(_) | Self::Unavailable => &[],
        }
    }

    /// The backend that names the route in metrics: the first.
    pub fn primary(&self) -> Option<&Arc<BackendKey>> {
        self.backends().first().map(|backend| &backend.key)
    }
}

/// A backend and its share of the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedBackend {
    /// The backend.
    pub key: Arc<BackendKey>,
    /// Its share among the weights of all. 0: it gets none.
    pub weight: u32,
    /// Which requests it gets by more than its weight. Where one of the backends is a canary, the
    /// first is the main one and all others are canaries.
    pub canary: Option<Arc<Canary>>,
}

/// An answer that sends the client to another URL.
///
/// Source: ingress-nginx, annotations `permanent-redirect` and `temporal-redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The value of Location: visible ASCII.
    pub location: Arc<str>,
    /// Status of the answer, from 300 to 308.
    pub code: u16,
}
