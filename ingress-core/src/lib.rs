//! Decisions: what the Kubernetes objects mean and which backend serves a request.
//!
//! Nothing here does I/O, reads a clock, draws a random number or looks at the environment.
//! The userspace crate feeds observations in and carries decisions out.

#![warn(clippy::missing_errors_doc)]

pub mod acme;
pub mod admission;
pub mod adopt;
pub mod annotation;
pub mod balance;
pub mod deny;
pub mod diagnostic;
pub mod explain;
pub mod filter;
pub mod ir;
pub mod list;
pub mod object;
pub mod oidc;
pub mod plan;
pub mod prefetch;
pub mod route;
pub mod shared;
pub mod snapshot;
pub mod sorted;
pub mod tail;
pub mod translate;
