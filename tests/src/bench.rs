//! Benches: subjects side by side in one run, alternating, on one core; claims are ratios.
//!
//! Wall time on two shared cores proves little, so the figure is CPU time a request: the busy time
//! of the one core that everything runs on, client and pods included. Each comparison is a number
//! of pairs; its ratio is the median of the pairs' ratios, given with their range. A run in which
//! somebody else had too much of the core is thrown away before its figure is looked at.

pub mod control;
mod core;
pub mod datapath;
mod edge;
pub mod flood;
pub mod proxy;
mod render;
mod report;
mod rounds;
pub mod shortcut;
mod wrk;

pub use render::render;
pub use report::{Goal, Machine, Ratio, Report, Row};
pub use rounds::Effort;
