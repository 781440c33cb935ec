//! From a path to a route of one host.
//!
//! Most hosts have a handful of rules: those are tried one by one in order of precedence. A host
//! with many gets an index that answers the same (proved by a property test).

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Route;
use crate::ir::PathPattern;

/// The routes of one host, in order of precedence.
#[derive(Clone, Debug)]
pub(super) enum PathTable<T> {
    /// The root prefix alone, as nearly every host has it: in place, and found without a look at
    /// the rule's text. Among 100,000 hosts each pointer that is not followed is a miss less.
    Root(Route<T>),
    Scanned(Arc<[Route<T>]>),
    Indexed(Arc<(Index, Box<[Route<T>]>)>),
}

impl<T> PathTable<T> {
    pub(super) fn new(mut routes: Vec<Route<T>>) -> Self {
        let is_root = |route: &Route<T>| matches!(&route.rule.path, PathPattern::Prefix(text) if text.is_empty());
        if routes.len() == 1
            && let Some(route) = routes.pop_if(|route| is_root(route))
        {
            return Self::Root(route);
        }
        if routes.len() <= SCANNED_MAX {
            return Self::Scanned(routes.into());
        }
        let index = Index::new(&routes);
        Self::Indexed(Arc::new((index, routes.into())))
    }

    /// The first route in order of precedence that matches.
    pub(super) fn find(&self, path: &str) -> Option<&Route<T>> {
        match self {
            Self::Root(route) => (path.is_empty() || path.starts_with('/')).then_some(route),
            Self::Scanned(routes) => routes.iter().find(|route| route.rule.path.matches(path)),
            Self::Indexed(indexed) => {
                let (index, routes) = &**indexed;
                index.find(routes, path)
            }
        }
    }
}

/// Finds a route by hashing instead of trying all.
#[derive(Debug)]
pub(super) struct Index {
    hasher: DefaultHashBuilder,
    /// Places in the routes, by the text of the pattern.
    exact: HashTable<usize>,
    prefix: HashTable<usize>,
    /// Every length that a prefix has, the longest first. It bounds the work for a path of many
    /// elements by what is configured, not by what a client sends.
    prefix_lengths: Box<[usize]>,
}

impl Index {
    fn new<T>(routes: &[Route<T>]) -> Self {
        let mut index = Self {
            hasher: DefaultHashBuilder::default(),
            exact: HashTable::new(),
            prefix: HashTable::new(),
            prefix_lengths: Box::default(),
        };
        let mut prefix_lengths = Vec::new();
        for (place, route) in routes.iter().enumerate() {
            let table = match &route.rule.path {
                PathPattern::Exact(_) => &mut index.exact,
                PathPattern::Prefix(text) => {
                    prefix_lengths.push(text.len());
                    &mut index.prefix
                }
            };
            let hash = |place: usize| {
                let text = routes
                    .get(place)
                    .map_or("", |route| route.rule.path.as_str());
                index.hasher.hash_one(text)
            };
            table.insert_unique(hash(place), place, |place| hash(*place));
        }
        prefix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        prefix_lengths.dedup();
        index.prefix_lengths = prefix_lengths.into();
        index
    }

    /// A matching `Exact` is as long as the path, so no prefix comes before it.
    fn find<'a, T>(&self, routes: &'a [Route<T>], path: &str) -> Option<&'a Route<T>> {
        self.look_up(&self.exact, routes, path).or_else(|| {
            (self.prefix_lengths.iter())
                .filter_map(|length| elements(path, *length))
                .find_map(|prefix| self.look_up(&self.prefix, routes, prefix))
        })
    }

    fn look_up<'a, T>(
        &self,
        table: &HashTable<usize>,
        routes: &'a [Route<T>],
        text: &str,
    ) -> Option<&'a Route<T>> {
        let is_text = |place: &usize| {
            routes
                .get(*place)
                .is_some_and(|route| route.rule.path.as_str() == text)
        };
        routes.get(*table.find(self.hasher.hash_one(text), is_text)?)
    }
}

/// The first `length` bytes of a path, if they are whole elements of it.
fn elements(path: &str, length: usize) -> Option<&str> {
    let (prefix, rest) = path.split_at_checked(length)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(prefix)
}

/// Up to here a scan is faster than hashing.
const SCANNED_MAX: usize = 16;
