//! From a path to a route of one host.
//!
//! Most hosts have a handful of rules: those are tried one by one in order of precedence. A host
//! with many gets an index that answers the same (proved by a property test).

use std::hash::BuildHasher;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::Route;
use crate::ir::{Conditions, PathPattern};

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
        let is_root = |route: &Route<T>| {
            let matches = &route.rule.matches;
            let is_root = matches!(&matches.path, PathPattern::Prefix(text) if text.is_empty());
            is_root && matches.conditions.is_none()
        };
        if routes.len() == 1
            && let Some(route) = routes.pop_if(|route| is_root(route))
        {
            return Self::Root(route);
        }
        let is_regex = |route: &Route<T>| matches!(route.rule.matches.path, PathPattern::Regex(_));
        if routes.len() <= SCANNED_MAX || routes.iter().any(is_regex) {
            return Self::Scanned(routes.into());
        }
        let index = Index::new(&routes);
        Self::Indexed(Arc::new((index, routes.into())))
    }

    /// The first route in order of precedence that matches.
    pub(super) fn find(
        &self,
        path: &[u8],
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&Route<T>> {
        match self {
            Self::Root(route) => (path.is_empty() || path.starts_with(b"/")).then_some(route),
            Self::Scanned(routes) => routes
                .iter()
                .find(|route| route.rule.matches.path.matches(path) && is_met(route, &meets)),
            Self::Indexed(indexed) => {
                let (index, routes) = &**indexed;
                index.find(routes, path, meets)
            }
        }
    }
}

/// Whether a request that matches the path of a route meets its other conditions.
fn is_met<T>(route: &Route<T>, meets: impl Fn(&Conditions) -> bool) -> bool {
    let conditions = route.rule.matches.conditions.as_deref();
    conditions.is_none_or(meets)
}

/// Finds a route by hashing instead of trying all. Routes of one pattern stand side by side; the
/// index leads to the first of them.
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
            let path = &route.rule.matches.path;
            let before = place.checked_sub(1).and_then(|before| routes.get(before));
            if before.is_some_and(|before| before.rule.matches.path == *path) {
                continue;
            }
            let table = match path {
                PathPattern::Exact(_) => &mut index.exact,
                PathPattern::Prefix(text) => {
                    prefix_lengths.push(text.len());
                    &mut index.prefix
                }
                // Hosts with expressions are scanned.
                PathPattern::Regex(_) => continue,
            };
            let hash = |place: usize| {
                let text = routes
                    .get(place)
                    .map_or("", |route| route.rule.matches.path.as_str());
                index.hasher.hash_one(text.as_bytes())
            };
            table.insert_unique(hash(place), place, |place| hash(*place));
        }
        prefix_lengths.sort_unstable_by(|a, b| b.cmp(a));
        prefix_lengths.dedup();
        index.prefix_lengths = prefix_lengths.into();
        index
    }

    /// A matching `Exact` is as long as the path, so no prefix comes before it.
    fn find<'a, T>(
        &self,
        routes: &'a [Route<T>],
        path: &[u8],
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&'a Route<T>> {
        let exact = self.look_up(&self.exact, routes, path, &meets);
        exact.or_else(|| {
            (self.prefix_lengths.iter())
                .filter_map(|length| elements(path, *length))
                .find_map(|prefix| self.look_up(&self.prefix, routes, prefix, &meets))
        })
    }

    fn look_up<'a, T>(
        &self,
        table: &HashTable<usize>,
        routes: &'a [Route<T>],
        text: &[u8],
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&'a Route<T>> {
        let is_text = |place: &usize| {
            routes
                .get(*place)
                .is_some_and(|route| route.rule.matches.path.as_str().as_bytes() == text)
        };
        let first = *table.find(self.hasher.hash_one(text), is_text)?;
        let first_path = &routes.get(first)?.rule.matches.path;
        (routes.get(first..)?.iter())
            .take_while(|route| route.rule.matches.path == *first_path)
            .find(|route| is_met(route, &meets))
    }
}

/// The first `length` bytes of a path, if they are whole elements of it.
fn elements(path: &[u8], length: usize) -> Option<&[u8]> {
    let (prefix, rest) = path.split_at_checked(length)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(prefix)
}

/// Up to here a scan is faster than hashing.
const SCANNED_MAX: usize = 16;
