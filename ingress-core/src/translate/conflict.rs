//! Step 3: which claim wins what several make.
//!
//! Claims come oldest Ingress first; the first to ask wins and every other gets a diagnostic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claim::{Claims, DefaultScope, RuleClaim, RuleField};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{BackendKey, HostPattern, HostRules, ObjectRef, Rule, Target};

/// The claims that are served.
pub(super) struct Winners<'a> {
    pub(super) hosts: BTreeMap<HostPattern, HostRules>,
    pub(super) default_backend: Option<Arc<Rule>>,
    pub(super) uses: Vec<BackendUse<'a>>,
}

/// What sends requests, connections or datagrams to a backend.
pub(super) struct BackendUse<'a> {
    pub(super) key: &'a Arc<BackendKey>,
    pub(super) place: Place<'a>,
}

/// Who names a backend.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    /// A rule of an Ingress.
    Rule(&'a ObjectRef, RuleField),
    /// The entry of a port in a ConfigMap of services.
    Entry(&'a ObjectRef, u16),
    /// A flag.
    Operator,
}

/// Settles all claims, given oldest Ingress first.
pub(super) fn resolve<'a>(
    claims: &'a [Arc<Claims>],
    controller_default: Option<&'a Arc<Rule>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Winners<'a> {
    let mut winners = Winners {
        hosts: BTreeMap::new(),
        default_backend: None,
        uses: Vec::new(),
    };
    winners.take_rules(claims, diagnostics);
    winners.take_defaults(claims, diagnostics);
    winners.fall_back_to(controller_default);
    winners
}

impl<'a> Winners<'a> {
    fn take_rules(&mut self, claims: &'a [Arc<Claims>], diagnostics: &mut Vec<Diagnostic>) {
        let mut all: Vec<(&'a RuleClaim, &'a Claims)> = claims
            .iter()
            .flat_map(|claims| claims.rules.iter().map(move |claim| (claim, &**claims)))
            .collect();
        // Stable: among equal host and path the oldest Ingress stays first.
        all.sort_by(|(a, _), (b, _)| {
            a.host
                .cmp(&b.host)
                .then_with(|| a.rule.path.cmp(&b.rule.path))
        });
        self.uses.reserve_exact(all.len());
        for same in all.chunk_by(|(a, _), (b, _)| a.host == b.host && a.rule.path == b.rule.path) {
            let Some(((winner, winner_claims), losers)) = same.split_first() else {
                continue;
            };
            self.add_use(&winner.rule, &winner_claims.ingress, winner.field);
            let host = self.hosts.entry(winner.host.clone()).or_default();
            host.rules.push(Arc::clone(&winner.rule));
            diagnostics.extend(
                losers
                    .iter()
                    .map(|(loser, claims)| path_conflict(loser, claims, winner_claims)),
            );
        }
    }

    fn take_defaults(&mut self, claims: &'a [Arc<Claims>], diagnostics: &mut Vec<Diagnostic>) {
        for claims in claims {
            for host in &claims.hosts {
                self.hosts.entry(host.clone()).or_default();
            }
            let Some(default) = &claims.default else {
                continue;
            };
            let mut served = false;
            let mut first_loss = None;
            let mut take = |slot: &mut Option<Arc<Rule>>, what: String| match slot {
                None => {
                    *slot = Some(Arc::clone(default));
                    served = true;
                }
                Some(older) => {
                    let older = Arc::clone(older);
                    first_loss.get_or_insert((what, older));
                }
            };
            match claims.scope {
                DefaultScope::Everything => {
                    take(&mut self.default_backend, "all other hosts".to_owned());
                }
                DefaultScope::Hosts => {
                    for host in &claims.hosts {
                        let rules = self.hosts.entry(host.clone()).or_default();
                        take(&mut rules.default, format!("host `{host}`"));
                    }
                }
            }
            diagnostics.extend(
                first_loss
                    .filter(|(_, older)| older.target != default.target)
                    .map(|(what, older)| default_conflict(claims, &what, &older)),
            );
            if served {
                self.add_use(default, &claims.ingress, RuleField::DefaultBackend);
            }
        }
    }

    /// Hosts with rules fall back to the controller's own default backend, never to an Ingress
    /// without rules; those who named no host share the latter's.
    fn fall_back_to(&mut self, controller_default: Option<&'a Arc<Rule>>) {
        if self.default_backend.is_none() {
            self.default_backend = controller_default.cloned();
        }
        if let Some(any) = self.hosts.get_mut(&HostPattern::Any)
            && any.default.is_none()
        {
            any.default.clone_from(&self.default_backend);
        }
        let Some(rule) = controller_default else {
            return;
        };
        for rules in self.hosts.values_mut() {
            rules.default.get_or_insert_with(|| Arc::clone(rule));
        }
        if let Target::Backend(key) = &rule.target {
            let place = Place::Operator;
            self.uses.push(BackendUse { key, place });
        }
    }

    fn add_use(&mut self, rule: &'a Rule, ingress: &'a ObjectRef, field: RuleField) {
        if let Target::Backend(key) = &rule.target {
            self.uses.push(BackendUse {
                key,
                place: Place::Rule(ingress, field),
            });
        }
    }
}

fn path_conflict(loser: &RuleClaim, claims: &Claims, winner: &Claims) -> Diagnostic {
    let who = if claims.ingress == winner.ingress {
        "an earlier rule of the same Ingress".to_owned()
    } else {
        format!("the older {}", winner.ingress)
    };
    Diagnostic {
        object: claims.ingress.clone(),
        field: format!("{}.path", loser.field),
        reason: Reason::PathConflict,
        message: format!(
            "host `{}` path `{}` already belongs to {who}; this rule is not served",
            loser.host, loser.rule.origin.path,
        ),
    }
}

fn default_conflict(claims: &Claims, what: &str, older: &Rule) -> Diagnostic {
    Diagnostic {
        object: claims.ingress.clone(),
        field: RuleField::DefaultBackend.to_string(),
        reason: Reason::DefaultBackendConflict,
        message: format!(
            "the default backend of {what} is already set by the older {}",
            older.origin.ingress,
        ),
    }
}
