//! How fast a response may be.

use std::num::NonZeroU64;

/// How fast a response may be.
///
/// Source: ingress-nginx, annotations `limit-rate` and `limit-rate-after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// In the long run.
    pub bytes_per_second: NonZeroU64,
    /// Bytes before the bound counts.
    pub after: u64,
}
