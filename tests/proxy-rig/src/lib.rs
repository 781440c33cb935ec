//! A proxy in the process of a test, with clients and origins around it on real sockets.
//!
//! `rig` has the proxy, origins and a client that reads what it gets as text; `frames` speaks HTTP/2 frame
//! by frame, as no library would; `h2rig` speaks it through a library; `trusting` is a TLS client.

#![expect(
    missing_docs,
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    reason = "only tests use it, and what goes wrong here fails them"
)]

pub mod frames;
pub mod h2rig;
pub mod rig;
pub mod trusting;
