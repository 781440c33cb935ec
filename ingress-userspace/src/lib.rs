//! The I/O shell: sources of objects, the control loop, the datapath and the proxy.
//!
//! `source`, `control`, `datapath`, `proxy` and `acme` never import each other; `app` builds them all and
//! hands out handles.

pub mod acme;
pub mod admin;
pub mod allocator;
pub mod api;
pub mod app;
pub mod cli;
pub mod confine;
pub mod control;
pub mod dashboard;
pub mod datapath;
pub mod proxy;
pub mod settings;
pub mod source;
pub mod telemetry;
