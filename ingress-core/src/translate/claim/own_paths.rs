//! Rules for the paths of an Ingress that the proxy answers itself: those of logins.
//!
//! A provider sends users back to a path that the rules of the Ingress need not have. On every host of the
//! Ingress, each such path gets a rule of its own with the policy of the others, whose filter answers.

use std::sync::Arc;

use super::{Reader, RuleClaim, RuleField};
use crate::ir::{HostPattern, PathPattern, RouteMatch, Rule, RuleOrigin};

impl Reader {
    /// The rules beside those of the Ingress, which have no path of these.
    pub(super) fn own_paths(&self, claims: &[RuleClaim]) -> Vec<RuleClaim> {
        let settings = &self.settings;
        let is_served = !settings.is_closed && settings.redirect().is_none();
        // A canary has the paths of its main Ingress.
        let is_served = is_served && settings.canary().is_none();
        let Some(paths) = settings.oidc.own_paths().filter(|_| is_served) else {
            return Vec::new();
        };
        let mut hosts: Vec<&HostPattern> = claims.iter().map(|claim| &claim.host).collect();
        hosts.sort_unstable();
        hosts.dedup();
        let mut added = Vec::new();
        for host in hosts {
            let of_host = || claims.iter().filter(|claim| claim.host == *host);
            let Some(first) = of_host().next() else {
                continue;
            };
            for (key, path) in &paths {
                let matches = RouteMatch::from(PathPattern::Exact(Arc::clone(path)));
                if of_host().any(|claim| claim.rule.matches == matches) {
                    continue;
                }
                let rule = self.own_path(&first.rule, matches, path);
                added.push(RuleClaim {
                    host: host.clone(),
                    rule: Arc::new(rule),
                    field: RuleField::Annotation(key),
                });
            }
        }
        added
    }

    /// A rule whose requests the filters of the Ingress answer; no request gets to the target.
    fn own_path(&self, beside: &Rule, matches: RouteMatch, path: &Arc<str>) -> Rule {
        Rule {
            matches,
            target: beside.target.clone(),
            policy: Arc::clone(&self.policy),
            origin: RuleOrigin {
                ingress: self.ingress.clone(),
                path: Arc::clone(path),
            },
        }
    }
}
