//! Where Kubernetes objects come from.
//!
//! First station of a change: **source** → reconcile → translate → publish. A source hands out
//! whole snapshots and knows nothing of what they mean.

pub mod manifests;
