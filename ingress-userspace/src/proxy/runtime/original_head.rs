//! The parts of a request head that `http::Request` has no place for.

use http::Uri;
use ingress_wire::http1::{RawTarget, Spelling};

/// What a client has sent in a head and `http` has no place for.
#[derive(Clone, Debug, Default)]
pub(crate) struct OriginalHead {
    /// The target, where the URI is an encoded form of it.
    pub(crate) raw_target: Option<Box<RawTarget>>,
    /// The names of fields, where they have capital letters.
    pub(crate) spelling: Option<Spelling>,
}

impl OriginalHead {
    pub(crate) fn of(raw_target: Option<RawTarget>, spelling: Option<Spelling>) -> Self {
        Self {
            raw_target: raw_target.map(Box::new),
            spelling,
        }
    }

    /// The path as the client sent it, of a request to `uri`.
    pub(crate) fn path<'a>(&'a self, uri: &'a Uri) -> &'a [u8] {
        match &self.raw_target {
            Some(raw) => raw.path(),
            None => uri.path().as_bytes(),
        }
    }

    /// The query as the client sent it, of a request to `uri`.
    pub(crate) fn query<'a>(&'a self, uri: &'a Uri) -> Option<&'a [u8]> {
        match &self.raw_target {
            Some(raw) => raw.query(),
            None => uri.query().map(str::as_bytes),
        }
    }
}
