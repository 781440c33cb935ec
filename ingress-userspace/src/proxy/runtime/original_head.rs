//! The parts of a request head that `http::Request` has no place for.

use std::borrow::Cow;

use http::Uri;
use http::uri::PathAndQuery;
use ingress_wire::http1::{RawTarget, Spelling};

/// The parts of a client's head that the types of `http` cannot hold.
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

    /// Path and query as the client sent them, of a request to `uri`.
    pub(crate) fn target<'a>(&'a self, uri: &'a Uri) -> Cow<'a, [u8]> {
        match &self.raw_target {
            None => {
                let target = uri.path_and_query().map_or("/", PathAndQuery::as_str);
                Cow::Borrowed(target.as_bytes())
            }
            Some(raw) => match raw.query() {
                None => Cow::Borrowed(raw.path()),
                Some(query) => Cow::Owned([raw.path(), b"?", query].concat()),
            },
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
