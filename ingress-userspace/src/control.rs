//! From objects to what is served: the single writer of the configuration.

mod reconcile;

pub use reconcile::{Problem, Publish, Reconciler, Summary};
