//! Finds the mistakes of one Ingress, given the configuration that is served.

use super::claim::{self, Claims};
use super::class::{ClassSettings, Classes};
use super::{HostOwnership, Options};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Config, HostRules, Rule};
use crate::object::Ingress;
use crate::snapshot::Snapshot;

/// The mistakes of an Ingress; `None` if its class is not ours.
pub(crate) fn review(
    ingress: &Ingress,
    snapshot: &Snapshot,
    config: &Config,
    options: &Options,
) -> Option<Vec<Diagnostic>> {
    let mut ignored = Vec::new();
    let classes = Classes::new(&snapshot.ingress_classes, options, &mut ignored);
    let class = classes.of(ingress)?;
    let settings = ClassSettings::read(&classes, &snapshot.config_maps, &mut ignored);
    let claims = claim::read(ingress, settings.of(class), &options.ignored_annotations);
    let mut found = claims.diagnostics.to_vec();
    if claims.canary.is_none() {
        for claim in &claims.rules {
            let rules = config.hosts.get(&claim.host);
            let stranger = rules.and_then(|rules| stranger(rules, &claims, options));
            let taken = rules.and_then(|rules| taken(rules, &claims, &claim.rule));
            let Some((reason, message)) = taken.or(stranger) else {
                continue;
            };
            found.push(Diagnostic {
                object: claims.ingress.clone(),
                field: format!("{}.path", claim.field),
                reason,
                message: format!("host `{}` {message}", claim.host),
            });
        }
    }
    Some(found)
}

/// That another Ingress has the host and path.
fn taken(rules: &HostRules, claims: &Claims, rule: &Rule) -> Option<(Reason, String)> {
    let mut others = rules.rules.iter();
    let other = others
        .find(|other| other.matches == rule.matches && other.origin.ingress != claims.ingress)?;
    let path = &rule.origin.path;
    let message = format!("path `{path}` already belongs to {}", other.origin.ingress);
    Some((Reason::PathConflict, message))
}

/// That the host belongs to another namespace, where that matters.
fn stranger(rules: &HostRules, claims: &Claims, options: &Options) -> Option<(Reason, String)> {
    if options.host_ownership == HostOwnership::Shared {
        return None;
    }
    let owner = &rules.rules.first()?.origin.ingress;
    let is_own = owner.namespace == claims.ingress.namespace;
    let message = || format!("belongs to namespace `{}`", owner.namespace);
    (!is_own).then(|| (Reason::HostConflict, message()))
}
