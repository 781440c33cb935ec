//! Where objects come from: a Kubernetes API server, or a directory of manifests.
//!
//! Architecture invariant: a source observes and never decides what objects mean; nothing here
//! knows workers, sockets or kernel maps.

pub mod kubernetes;
pub mod manifests;
pub mod names;

use ingress_core::diagnostic::Diagnostic;
use ingress_core::snapshot::Snapshot;

/// What a source saw: all objects at one instant, and what it could not read.
#[derive(Clone, Debug, Default)]
pub struct Observation {
    /// The objects.
    pub snapshot: Snapshot,
    /// Objects that could not be understood; their last good version is in the snapshot.
    pub diagnostics: Vec<Diagnostic>,
    /// What is wrong with a place rather than with an object, such as a file.
    pub problems: Vec<String>,
}

impl From<manifests::Loaded> for Observation {
    fn from(loaded: manifests::Loaded) -> Self {
        Self {
            snapshot: loaded.snapshot,
            diagnostics: Vec::new(),
            problems: loaded.problems.iter().map(ToString::to_string).collect(),
        }
    }
}
