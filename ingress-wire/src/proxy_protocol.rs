//! The PROXY protocol: what a load balancer says about the client of a connection, before its bytes.

#[cfg(any(test, feature = "testing"))]
pub mod check;
mod header;

pub use header::{HEADER_BYTES_MAX, Origin, Parsed, Version, header, parse};
