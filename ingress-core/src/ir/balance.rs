//! How the endpoints of a backend share its requests.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::template::Template;

/// Which endpoint a request goes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Balance {
    /// The one with fewer requests of two drawn at random.
    LeastRequest,
    /// One after another.
    RoundRobin,
    /// The one that is expected to answer sooner of two drawn at random.
    PeakEwma,
    /// The same for the same key, unless it has much more to do than others.
    Hash(HashBy),
    /// One of this many, which are the same for the same key: the one with fewer requests of two drawn
    /// at random from them.
    HashSubset(HashBy, NonZeroU32),
}

/// What of a request is the key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashBy {
    /// The client's address.
    ClientAddress,
    /// Path and query.
    Uri,
    /// The path alone.
    Path,
    /// The host that was asked for.
    Host,
    /// A field, by its name in lower case.
    Field(Arc<str>),
    /// A text with variables.
    Text(Arc<Template>),
}

/// Sessions that stay with an endpoint, by a cookie of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Affinity {
    /// The cookie's name.
    pub cookie: Arc<str>,
    /// When a session moves.
    pub mode: AffinityMode,
    /// The cookie's Path; `None`: that of the rule ([`Rule::cookie_path`](super::Rule::cookie_path)).
    pub path: Option<Arc<str>>,
    /// The cookie's attributes after its Path, such as `; HttpOnly`.
    pub attributes: Arc<str>,
    /// Seconds from a response to the time in Expires; `None`: there is no Expires.
    pub expires: Option<u32>,
    /// Whether the cookie is Secure for clients that speak HTTPS.
    pub secure_over_https: bool,
    /// Whether the cookie is `SameSite=None` for clients that understand this.
    pub same_site_none_if_understood: bool,
    /// Whether a session moves for good when its endpoint fails.
    pub change_on_failure: bool,
}

/// When a session moves to another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityMode {
    /// When its endpoint goes, and some when endpoints come, so that new ones get their share.
    Balanced,
    /// When its endpoint goes.
    Persistent,
}
