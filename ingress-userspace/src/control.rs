//! From objects to what is served, and back to their owners: the single writer of the
//! configuration, and of what the API server is told about it.

mod events;
mod leader;
mod reconcile;
mod report;
mod status;
pub mod webhook;

pub use leader::Candidate;
pub use reconcile::{Outcome, Problem, Publish, Reconciler, Summary};
pub use report::{Report, Reporter, Settings as ReporterSettings};
pub use status::Addresses;
