//! Whose a host is: the oldest Ingress that names it decides about the host as a whole.
//!
//! Source: ingress-nginx makes a server from the first Ingress that names its host; settings of the
//! server from later ones are left out.

use std::sync::Arc;

use hashbrown::HashMap;

use super::claim::{Claims, DefaultScope};
use crate::ir::{HostPattern, ObjectRef};

/// The owners of all hosts.
pub(super) struct Owners<'a>(HashMap<&'a HostPattern, &'a ObjectRef>);

impl<'a> Owners<'a> {
    /// The owners among claims that come oldest Ingress first.
    pub(super) fn of(claims: &'a [Arc<Claims>]) -> Self {
        let mut owners = HashMap::with_capacity(claims.len());
        for claims in claims.iter().filter(|claims| claims.canary.is_none()) {
            for host in claims.own_hosts() {
                owners.entry(host).or_insert(&claims.ingress);
            }
        }
        Self(owners)
    }

    /// The Ingress that named a host first.
    pub(super) fn owner(&self, host: &HostPattern) -> Option<&'a ObjectRef> {
        self.0.get(host).copied()
    }

    /// Whether an Ingress named a host first.
    pub(super) fn is_owner(&self, host: &HostPattern, ingress: &ObjectRef) -> bool {
        self.owner(host) == Some(ingress)
    }
}

impl Claims {
    /// The hosts that the settings of an Ingress are for: without rules, all that nobody names.
    pub(super) fn own_hosts(&self) -> &[HostPattern] {
        match self.scope {
            DefaultScope::Hosts => &self.hosts,
            DefaultScope::Everything => &[HostPattern::Any],
        }
    }
}
