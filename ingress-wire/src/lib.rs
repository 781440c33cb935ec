//! The formats that Sluice speaks, as functions from bytes to values and back.
//!
//! This crate does no I/O and knows no clock, runtime or configuration. The proxy reads and writes
//! sockets and asks this crate what the bytes mean. The fuzz targets in `tests/fuzz` depend on it.
//!
//! Invariant: no input makes a function panic, loop without an end or keep more than a named bound.

#![warn(clippy::missing_errors_doc)]

#[cfg(any(test, feature = "testing"))]
pub mod corpus;
pub mod hpack;
pub mod http1;
pub mod http2;
pub mod limits;
pub mod proxy_protocol;
#[cfg(feature = "websocket")]
pub mod websocket;
