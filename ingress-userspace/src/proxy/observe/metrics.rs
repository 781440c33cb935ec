//! What requests come to, as Prometheus metrics: counted by each worker for itself, summed when
//! somebody asks.
//!
//! `labels` names what a route's numbers belong to, `tally` are those numbers of one outcome,
//! `series` finds them on one worker, and `record` is what one request adds to them when it ends.
//! `worker/exposition.rs` puts the workers' numbers together.
//!
//! Invariant: labels come from the configuration and from closed sets, never from a client; a
//! worker holds a bounded number of series, and those of a route that has left are dropped.

/// Whether requests are counted by route, status and method.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestMetrics {
    /// They are.
    #[default]
    On,
    /// Only what a worker counts of itself is.
    Off,
}

pub(crate) mod family;
pub(crate) mod head_bytes;
pub(crate) mod histogram;
pub(crate) mod labels;
pub(crate) mod process;
pub(crate) mod record;
pub(crate) mod requests;
pub(crate) mod series;
pub(crate) mod tally;
pub(crate) mod worker;
