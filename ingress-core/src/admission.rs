//! Judges an Ingress before the API server takes it, for a validating webhook.
//!
//! Pure, and as dear as the object is large: the object is read by itself, and its rules are looked up
//! in the configuration that is served. No file is read, nothing is called, nothing is rendered; so that
//! what made CVE-2025-1974 possible has no place here.

use crate::diagnostic::{Diagnostic, Severity};
use crate::ir::Config;
use crate::object::Ingress;
use crate::snapshot::Snapshot;
use crate::translate::{self, Options};

/// The findings of a review: why an object is refused, and what its owner is warned of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Review {
    /// Why the object is refused; empty if it is accepted.
    pub refusals: Vec<Diagnostic>,
    /// Mistakes that do not refuse the object.
    pub warnings: Vec<Diagnostic>,
}

/// Judges an Ingress beside what is served: refuses what would be ignored or answered with errors, and
/// rules whose host and path another Ingress has (a canary is to have them). Objects of other classes
/// are not judged.
///
/// A missing Secret, Service or ConfigMap is no reason to refuse an Ingress: it may be created after it.
pub fn review(
    ingress: &Ingress,
    snapshot: &Snapshot,
    config: &Config,
    options: &Options,
) -> Review {
    let Some(found) = translate::review(ingress, snapshot, config, options) else {
        return Review::default();
    };
    let is_error = |one: &Diagnostic| one.severity() == Severity::Error;
    let (refusals, warnings) = found.into_iter().partition(is_error);
    Review { refusals, warnings }
}
