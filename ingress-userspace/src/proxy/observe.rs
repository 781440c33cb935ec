//! What operators see of requests: metrics, the access log and traces.

pub(crate) mod access_log;
pub(crate) mod context;
pub(crate) mod metrics;
pub(crate) mod tail;
pub(crate) mod trace;
pub(crate) mod upstream_errors;
