//! Step 3b: canaries join the rules whose requests they share.
//!
//! Source: ingress-nginx: a canary belongs to the rule of another Ingress with the same host, path
//! and kind of path and another Service; without one it is ignored. Here a rule may have any number.

use std::sync::Arc;

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;

use super::claim::{Claims, RuleClaim};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Affinity, BackendKey, HostPattern, PathPattern, Rule, Target, WeightedBackend};

/// Gives canaries the sessions of the rules whose requests they share, unless they have their own.
/// Claims come oldest Ingress first.
///
/// Source: ingress-nginx, annotation `affinity-canary-behavior`.
pub(super) fn share_sessions(claims: &mut [Arc<Claims>]) {
    let shares =
        |claims: &Claims| (claims.canary.as_ref()).is_some_and(|one| !one.has_own_sessions);
    if !claims.iter().any(|claims| shares(claims)) {
        return;
    }
    let all = claims.to_vec();
    let mut mains: HashMap<_, Option<Arc<Affinity>>> = HashMap::new();
    for claim in (all.iter().filter(|claims| claims.canary.is_none()))
        .flat_map(|claims| claims.rules.iter().chain(&claims.alias_rules))
    {
        if let Entry::Vacant(entry) = mains.entry(key(claim)) {
            let backend = claim.rule.target.primary();
            entry.insert(backend.and_then(|backend| backend.policy.affinity.clone()));
        }
    }
    for claims in claims.iter_mut().filter(|claims| shares(claims)) {
        let mut changed = (**claims).clone();
        for claim in &mut changed.rules {
            if let Some(affinity) = mains.get(&key(claim)).cloned() {
                claim.rule = with_affinity(&claim.rule, affinity.as_ref());
            }
        }
        *claims = Arc::new(changed);
    }
}

fn with_affinity(rule: &Arc<Rule>, affinity: Option<&Arc<Affinity>>) -> Arc<Rule> {
    let Target::Backends(backends) = &rule.target else {
        return Arc::clone(rule);
    };
    let backends = backends.iter().map(|backend| {
        let mut key = BackendKey::clone(&backend.key);
        key.policy.affinity = affinity.cloned();
        WeightedBackend {
            key: Arc::new(key),
            ..backend.clone()
        }
    });
    Arc::new(Rule {
        target: Target::Backends(backends.collect()),
        ..Rule::clone(rule)
    })
}

/// The rules of all canaries, by what they have to have in common with a main rule.
pub(super) struct Canaries<'a> {
    by_rule: HashMap<Key<'a>, Vec<Member<'a>>>,
}

/// Host, path as it is spelled, and whether it is exact.
type Key<'a> = (&'a HostPattern, &'a str, bool);

#[derive(Clone, Copy)]
struct Member<'a> {
    claim: &'a RuleClaim,
    claims: &'a Claims,
}

impl<'a> Canaries<'a> {
    /// The canaries among claims that come oldest Ingress first.
    pub(super) fn of(claims: &'a [Arc<Claims>]) -> Self {
        let mut by_rule: HashMap<_, Vec<_>> = HashMap::new();
        for claims in claims.iter().filter(|claims| claims.canary.is_some()) {
            for claim in &claims.rules {
                let member = Member { claim, claims };
                by_rule.entry(key(claim)).or_default().push(member);
            }
        }
        Self { by_rule }
    }

    /// A rule with its canaries, and their claims.
    pub(super) fn join(
        &mut self,
        main: &'a RuleClaim,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> (Arc<Rule>, Vec<(&'a RuleClaim, &'a Claims)>) {
        let members = (!self.by_rule.is_empty())
            .then(|| self.by_rule.remove(&key(main)))
            .flatten();
        let (Some(members), Target::Backends(backends)) = (members, &main.rule.target) else {
            return (Arc::clone(&main.rule), Vec::new());
        };
        let mut all = backends.to_vec();
        let mut joined = Vec::new();
        for Member { claim, claims } in members {
            let (Some(key), Some(canary)) = (claim.rule.target.primary(), &claims.canary) else {
                continue;
            };
            if all.iter().any(|backend| backend.key == *key) {
                let message = "the rule that it is a canary of has the same backend; ignored";
                diagnostics.push(finding(claim, claims, message));
                continue;
            }
            all.push(WeightedBackend {
                key: Arc::clone(key),
                weight: 0,
                canary: Some(Arc::clone(canary)),
            });
            joined.push((claim, claims));
        }
        let rule = Arc::new(Rule {
            target: Target::Backends(all.into()),
            ..(*main.rule).clone()
        });
        (rule, joined)
    }

    /// Says of the rest that they have no main rule.
    pub(super) fn report(self, diagnostics: &mut Vec<Diagnostic>) {
        for Member { claim, claims } in self.by_rule.into_values().flatten() {
            let message = "no other Ingress has this host and path, so that the canary gets no \
                           requests";
            diagnostics.push(finding(claim, claims, message));
        }
    }
}

fn key(claim: &RuleClaim) -> Key<'_> {
    let is_exact = matches!(claim.rule.matches.path, PathPattern::Exact(_));
    (&claim.host, &claim.rule.origin.path, is_exact)
}

fn finding(claim: &RuleClaim, claims: &Claims, message: &str) -> Diagnostic {
    Diagnostic {
        object: claims.ingress.clone(),
        field: claim.field.to_string(),
        reason: Reason::CanaryIgnored,
        message: message.to_owned(),
    }
}
