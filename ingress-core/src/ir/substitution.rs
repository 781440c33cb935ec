//! Texts in response bodies that are replaced.

use std::sync::Arc;

/// Replacements of texts in response bodies.
///
/// Source: nginx, directives `sub_filter`, `sub_filter_once`, `sub_filter_types` and
/// `sub_filter_last_modified`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Substitution {
    /// Texts, not empty and in lower case, and what replaces them. Letters of either case are the same.
    pub pairs: Box<[(Box<str>, Box<str>)]>,
    /// Whether each text is replaced where it is found first only.
    pub is_once: bool,
    /// Media types besides `text/html`, in lower case; `*`: all.
    pub types: Arc<[Box<str>]>,
    /// Whether `Last-Modified` stays.
    pub keeps_last_modified: bool,
}
