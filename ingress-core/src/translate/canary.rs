//! Step 3b: canaries join the rules whose requests they share.
//!
//! Source: ingress-nginx: a canary belongs to the rule of another Ingress with the same host, path
//! and kind of path and another Service; without one it is ignored. Here a rule may have any number.

use std::sync::Arc;

use hashbrown::HashMap;

use super::claim::{Claims, RuleClaim};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{HostPattern, PathPattern, Rule, Target, WeightedBackend};

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
