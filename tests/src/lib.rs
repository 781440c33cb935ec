//! The test rig: real network namespaces, real firewall rules, real clients.
//!
//! `rig` builds an edge node with clients and pods around it; `daemon` runs `sluice` on it; `curl`
//! and `load` are its clients. The tests in `tests/tests`, the demo and the benches in `tests/bench` use them.

pub mod callgrind;
pub mod clock;
pub mod cluster;
pub mod conformance;
pub mod curl;
pub mod daemon;
pub mod demo;
pub mod flood;
pub mod harness;
pub mod host;
pub mod image;
pub mod load;
pub mod manifest;
pub mod neighbour;
pub mod packet;
pub mod pebble;
pub mod programs;
pub mod prometheus;
pub mod rig;
pub mod services;
pub mod supervise;
pub mod train;
pub mod wire;
pub mod wiring;
