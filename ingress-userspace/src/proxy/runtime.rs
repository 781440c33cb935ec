//! What every floor above stands on: clock, limits, streams, counters and the worker's turns.
//!
//! The lowest floor of the proxy: it imports nothing of the others.

pub(crate) mod bulk;
pub(crate) mod client_body;
pub(crate) mod client_group;
pub(crate) mod client_memory;
pub(crate) mod client_policy;
pub(crate) mod context;
pub(crate) mod counters;
pub(crate) mod date;
pub(crate) mod drain;
pub(crate) mod executor;
pub(crate) mod fairness;
pub(crate) mod field;
pub(crate) mod limits;
pub(crate) mod monitored;
pub(crate) mod original_head;
pub(crate) mod peek;
pub(crate) mod pipe;
pub(crate) mod random;
pub(crate) mod read_buffer;
pub(crate) mod shortcut_stream;
pub(crate) mod splice;
pub(crate) mod stalls;
pub(crate) mod stream;
pub(crate) mod timer;
pub(crate) mod transport;
pub(crate) mod upload;
