//! What every floor above stands on: clock, limits, streams, counters and the worker's turns.
//!
//! The lowest floor of the proxy: it imports nothing of the others.

pub(crate) mod counters;
pub(crate) mod date;
pub(crate) mod drain;
pub(crate) mod executor;
pub(crate) mod fairness;
pub(crate) mod limits;
pub(crate) mod monitored;
pub(crate) mod pipe;
pub(crate) mod random;
pub(crate) mod read_buffer;
pub(crate) mod splice;
pub(crate) mod stream;
pub(crate) mod timer;
