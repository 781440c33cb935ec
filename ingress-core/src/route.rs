//! Which rule serves a request: a host and a path in, a route out.
//!
//! Sits on the path of every request and never allocates there. A table is immutable; a change
//! gives a new one that shares every host that did not change, so the cost of a change is that of
//! the hosts it touches.
//!
//! Architecture invariant: `find` answers as a naive reading of the Ingress specification does,
//! `with_changes` gives the table that `compile` would give, and a host never has a say in the
//! answers for another.

mod host;
mod normalise;
mod path;

use std::sync::Arc;

use crate::ir::{Conditions, HostPattern, HostRules, Rule};
use host::HostMap;
use path::PathTable;

pub use normalise::{PathError, normalise};

/// A rule, and what the caller wants to have at hand when a request matches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<T> {
    /// The rule that matched.
    pub rule: Arc<Rule>,
    /// What `resolve` made of it, such as the slot of its backend.
    pub payload: T,
}

/// The routes of every host.
#[derive(Debug)]
pub struct RouteTable<T> {
    exact: HostMap<HostRoutes<T>>,
    /// By parent domain.
    wildcard: HostMap<HostRoutes<T>>,
    any: Option<Arc<HostRoutes<T>>>,
    default: Option<Arc<Route<T>>>,
}

/// The routes of hosts that one reader of a table asked for lately. Holds at most some two
/// thousand, in 272 KiB, and nothing while the table has few hosts.
#[derive(Debug)]
pub struct Recent<T>(host::Recent<HostRoutes<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(host::Recent::default())
    }
}

#[derive(Clone, Debug)]
struct HostRoutes<T> {
    paths: PathTable<T>,
    default: Option<Arc<Route<T>>>,
}

impl<T: Clone> RouteTable<T> {
    /// Compiles all hosts. `default` serves requests that no host pattern matches; `resolve` is
    /// called once for each rule of each host, with that host (`None`: for `default`).
    pub fn compile<'a>(
        hosts: impl IntoIterator<Item = (&'a HostPattern, &'a Arc<HostRules>)>,
        default: Option<&Arc<Rule>>,
        resolve: impl FnMut(Option<&HostPattern>, &Arc<Rule>) -> T,
    ) -> Self {
        let empty = Self {
            exact: HostMap::default(),
            wildcard: HostMap::default(),
            any: None,
            default: None,
        };
        let changes = hosts.into_iter().map(|(host, rules)| (host, Some(rules)));
        empty.with_changes(changes, default, resolve)
    }

    /// The table after some hosts got other rules, or none (`None`). Everything else is shared
    /// with this table, and `resolve` is not called for it.
    ///
    /// `default` replaces the former one; pass the same rule to keep it with its payload.
    #[must_use]
    pub fn with_changes<'a>(
        &self,
        changes: impl IntoIterator<Item = (&'a HostPattern, Option<&'a Arc<HostRules>>)>,
        default: Option<&Arc<Rule>>,
        mut resolve: impl FnMut(Option<&HostPattern>, &Arc<Rule>) -> T,
    ) -> Self {
        let mut exact = self.exact.edit();
        let mut wildcard = self.wildcard.edit();
        let mut any = self.any.clone();
        for (pattern, rules) in changes {
            let resolve = |rule: &Arc<Rule>| resolve(Some(pattern), rule);
            let routes = rules.map(|rules| HostRoutes::compile(rules, resolve));
            match pattern {
                HostPattern::Exact(host) => exact.set(host, routes),
                HostPattern::Wildcard(parent) => wildcard.set(parent, routes),
                HostPattern::Any => any = routes.map(Arc::new),
            }
        }
        let default = default.map(|rule| match &self.default {
            Some(route) if route.rule == *rule => Arc::clone(route),
            Some(_) | None => Arc::new(Route {
                rule: Arc::clone(rule),
                payload: resolve(None, rule),
            }),
        });
        Self {
            exact: exact.finish(),
            wildcard: wildcard.finish(),
            any,
            default,
        }
    }

    /// The route of a request, by its authority or `Host` header and its normalised path (without
    /// query); rules that ask for more than a path match nothing.
    ///
    /// The authority may have a port, a trailing dot and upper case; the path counts byte for
    /// byte. Text that is no host name is served as an unknown host. Never panics and never
    /// allocates.
    pub fn find(&self, authority: &str, path: impl AsRef<[u8]>) -> Option<&Route<T>> {
        self.find_where(authority, path, |_| false)
    }

    /// The same for a request that meets the conditions of rules for which `meets` says so.
    pub fn find_where(
        &self,
        authority: &str,
        path: impl AsRef<[u8]>,
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&Route<T>> {
        let exact = |name: &str| self.exact.get(name);
        self.find_by(exact, authority, path.as_ref(), meets)
    }

    /// The same, quicker where `recent` has been asked for the host before: a reader's own, given
    /// with each request.
    pub fn find_recent<'a>(
        &'a self,
        recent: &'a mut Recent<T>,
        authority: &str,
        path: &[u8],
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&'a Route<T>> {
        let recent = &mut recent.0;
        self.find_by(
            |name| self.exact.get_recent(recent, name),
            authority,
            path,
            meets,
        )
    }

    /// Asks for the memory where a request for this authority will be looked up. Nothing else
    /// depends on it.
    pub fn prefetch(&self, recent: &Recent<T>, authority: &str) {
        if let Some(name) = host::name(authority) {
            self.exact.prefetch(&recent.0, name);
        }
    }

    /// Drops what `recent` has of other tables, and makes room for what it will have of this one.
    pub fn adopt(&self, recent: &mut Recent<T>) {
        self.exact.adopt(&mut recent.0);
    }

    /// The most specific host pattern that matches has a say, and no other, whatever the path is.
    fn find_by<'a>(
        &'a self,
        exact: impl FnOnce(&str) -> Option<&'a HostRoutes<T>>,
        authority: &str,
        path: &[u8],
        meets: impl Fn(&Conditions) -> bool,
    ) -> Option<&'a Route<T>> {
        let named = host::name(authority).and_then(|name| {
            host::with_lower_case(name, |name| {
                exact(name).or_else(|| self.wildcard.get(host::parent(name)?))
            })
        });
        match named.or(self.any.as_deref()) {
            Some(routes) => routes.paths.find(path, meets).or(routes.default.as_deref()),
            None => self.default.as_deref(),
        }
    }
}

impl<T> HostRoutes<T> {
    fn compile(rules: &HostRules, mut resolve: impl FnMut(&Arc<Rule>) -> T) -> Self {
        let HostRules { rules, default, .. } = rules;
        debug_assert!(
            rules.is_sorted_by(|a, b| a.matches < b.matches),
            "rules are in precedence"
        );
        let mut route = |rule: &Arc<Rule>| Route {
            rule: Arc::clone(rule),
            payload: resolve(rule),
        };
        let routes = rules.iter().map(&mut route).collect();
        Self {
            paths: PathTable::new(routes),
            default: default.as_ref().map(route).map(Arc::new),
        }
    }
}
