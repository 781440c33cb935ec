//! Step 3: which claim wins what several make.
//!
//! Claims come oldest Ingress first; the first to ask wins and every other gets a diagnostic.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::canary::Canaries;
use super::claim::{Claims, DefaultScope, RuleClaim, RuleField};
use super::host::Owners;
use super::{Compat, HostOwnership, Options, regex, www};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{BackendKey, HostPattern, HostRules, ObjectRef, Rule};

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
    owners: &Owners<'_>,
    options: &Options,
    controller_default: Option<&'a Arc<Rule>>,
    diagnostics: &mut Vec<Diagnostic>,
) -> Winners<'a> {
    let mut winners = Winners {
        hosts: BTreeMap::new(),
        default_backend: None,
        uses: Vec::new(),
    };
    winners.take_rules(claims, owners, options, diagnostics);
    winners.take_defaults(claims, diagnostics);
    www::add(&mut winners.hosts, claims);
    winners.fall_back_to(controller_default);
    winners.take_host_settings(claims, owners, diagnostics);
    if options.compat == Compat::IngressNginx {
        winners.hosts.values_mut().for_each(regex::spread);
    }
    winners
}

impl<'a> Winners<'a> {
    fn take_rules(
        &mut self,
        claims: &'a [Arc<Claims>],
        owners: &Owners<'_>,
        options: &Options,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        let mut canaries = Canaries::of(claims);
        let mains = claims.iter().filter(|claims| claims.canary.is_none());
        let mut all: Vec<(&'a RuleClaim, &'a Claims)> = mains
            .clone()
            .flat_map(|claims| claims.rules.iter().map(move |claim| (claim, &**claims)))
            .collect();
        for claims in mains {
            for claim in &claims.alias_rules {
                match owners.owner(&claim.host) {
                    None => all.push((claim, claims)),
                    Some(owner) => diagnostics.push(alias_conflict(claim, claims, owner)),
                }
            }
        }
        if options.host_ownership == HostOwnership::Namespace {
            all.retain(|(claim, claims)| {
                let stranger = stranger_at(claim, claims, owners);
                let is_own = stranger.is_none();
                diagnostics.extend(stranger);
                is_own
            });
        }
        // Stable: among equal host and path the oldest Ingress stays first.
        all.sort_by(|(a, _), (b, _)| {
            a.host
                .cmp(&b.host)
                .then_with(|| a.rule.matches.cmp(&b.rule.matches))
        });
        self.uses.reserve_exact(all.len());
        for same in
            all.chunk_by(|(a, _), (b, _)| a.host == b.host && a.rule.matches == b.rule.matches)
        {
            let Some(((winner, winner_claims), losers)) = same.split_first() else {
                continue;
            };
            let (rule, joined) = canaries.join(winner, diagnostics);
            let used = std::iter::once((*winner, *winner_claims)).chain(joined);
            for (claim, claims) in used {
                self.add_use(&claim.rule, &claims.ingress, claim.field);
            }
            let host = self.hosts.entry(winner.host.clone()).or_default();
            host.rules.push(rule);
            diagnostics.extend(
                losers
                    .iter()
                    .filter(|(loser, _)| !shares_own_path(loser, &winner.rule))
                    .map(|(loser, claims)| path_conflict(loser, claims, winner_claims)),
            );
        }
        canaries.report(diagnostics);
    }

    fn take_defaults(&mut self, claims: &'a [Arc<Claims>], diagnostics: &mut Vec<Diagnostic>) {
        for claims in claims.iter().filter(|claims| claims.canary.is_none()) {
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
        let place = Place::Operator;
        let backends = rule.target.backends().iter();
        let uses = backends.map(|backend| BackendUse {
            key: &backend.key,
            place,
        });
        self.uses.extend(uses);
    }

    /// What concerns a host as a whole: whether a TLS section names it, and what its owner asks for.
    fn take_host_settings(
        &mut self,
        claims: &[Arc<Claims>],
        owners: &Owners<'_>,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        for claims in claims {
            for host in &claims.tls_hosts {
                if let Some(rules) = self.hosts.get_mut(host) {
                    rules.has_tls = true;
                }
            }
            if !claims.passthrough {
                continue;
            }
            for host in claims.own_hosts() {
                if !owners.is_owner(host, &claims.ingress) {
                    diagnostics.extend(passthrough_conflict(claims, host, owners));
                } else if let Some(rules) = self.hosts.get_mut(host) {
                    rules.passthrough = root_backend(rules, &claims.ingress);
                }
            }
        }
        self.spread_tls();
    }

    /// A TLS section for a wildcard names the hosts below it as well.
    fn spread_tls(&mut self) {
        let wildcards: Vec<HostPattern> = (self.hosts.iter())
            .filter(|(host, rules)| rules.has_tls && matches!(host, HostPattern::Wildcard(_)))
            .map(|(host, _)| host.clone())
            .collect();
        if wildcards.is_empty() {
            return;
        }
        for (host, rules) in &mut self.hosts {
            rules.has_tls |= wildcards.iter().any(|wildcard| wildcard.covers(host));
        }
    }

    fn add_use(&mut self, rule: &'a Rule, ingress: &'a ObjectRef, field: RuleField) {
        // The rule beside it uses the same backend.
        if matches!(field, RuleField::Annotation(_)) {
            return;
        }
        let backends = rule.target.backends().iter();
        self.uses.extend(backends.map(|backend| BackendUse {
            key: &backend.key,
            place: Place::Rule(ingress, field),
        }));
        let pages = rule.policy.error_pages.as_ref();
        let backend = pages.and_then(|pages| pages.backend.as_ref());
        self.uses.extend(backend.map(|key| BackendUse {
            key,
            place: Place::Rule(ingress, field),
        }));
    }
}

fn alias_conflict(claim: &RuleClaim, claims: &Claims, owner: &ObjectRef) -> Diagnostic {
    Diagnostic {
        object: claims.ingress.clone(),
        field: "metadata.annotations[server-alias]".to_owned(),
        reason: Reason::HostConflict,
        message: format!("host `{}` belongs to {owner}; not an alias", claim.host),
    }
}

/// The backend of the root of a host, if it is the rule of this Ingress.
fn root_backend(rules: &HostRules, ingress: &ObjectRef) -> Option<Arc<BackendKey>> {
    let mut all = rules.rules.iter().chain(&rules.default);
    let root = all.find(|rule| rule.matches.path.matches("/"))?;
    let is_own = root.origin.ingress == *ingress;
    root.target.primary().filter(|_| is_own).cloned()
}

fn passthrough_conflict(
    claims: &Claims,
    host: &HostPattern,
    owners: &Owners<'_>,
) -> Option<Diagnostic> {
    let owner = owners.owner(host)?;
    Some(Diagnostic {
        object: claims.ingress.clone(),
        field: "metadata.annotations[ssl-passthrough]".to_owned(),
        reason: Reason::HostConflict,
        message: format!(
            "host `{host}` belongs to the older {owner}, which decides about its TLS; not passed \
             through"
        ),
    })
}

/// What is wrong with a rule for a host that another namespace named first, if that is so.
fn stranger_at(claim: &RuleClaim, claims: &Claims, owners: &Owners<'_>) -> Option<Diagnostic> {
    let owner = owners.owner(&claim.host)?;
    if owner.namespace == claims.ingress.namespace {
        return None;
    }
    Some(Diagnostic {
        object: claims.ingress.clone(),
        field: claim.field.path(),
        reason: Reason::HostConflict,
        message: format!(
            "host `{}` belongs to namespace `{}`, whose {owner} named it first; this rule is not \
             served",
            claim.host, owner.namespace,
        ),
    })
}

/// Whether a path of logins works for both Ingresses although it belongs to one.
fn shares_own_path(loser: &RuleClaim, winner: &Rule) -> bool {
    let logins = loser.rule.policy.oidc().zip(winner.policy.oidc());
    matches!(loser.field, RuleField::Annotation(_))
        && logins.is_some_and(|(loser, winner)| loser.shares_sessions_with(winner))
}

fn path_conflict(loser: &RuleClaim, claims: &Claims, winner: &Claims) -> Diagnostic {
    let who = if claims.ingress == winner.ingress {
        "an earlier rule of the same Ingress".to_owned()
    } else {
        format!("the older {}", winner.ingress)
    };
    Diagnostic {
        object: claims.ingress.clone(),
        field: loser.field.path(),
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
