//! Step 2b: the ConfigMaps of fields for responses that annotations name.
//!
//! Source: ingress-nginx, annotation `custom-headers`: a ConfigMap that is missing, or that has a
//! field which the class does not allow, makes the routes answer 503.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;

use super::claim::{Claims, HeadersClaim};
use super::{name, namespace};
use crate::annotation::response_headers;
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{Filter, HeaderFields, ObjectRef, RoutePolicy, Rule, Target};
use crate::list::List;
use crate::object::Ingress;
use crate::snapshot::Snapshot;

/// The claims with the fields that they ask for, in the same order.
pub(super) fn resolve(
    claims: Vec<Arc<Claims>>,
    snapshot: &Snapshot,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<Claims>> {
    let mut resolved = claims;
    for claims in &mut resolved {
        let Some(claim) = &claims.custom_headers else {
            continue;
        };
        let fields = read(claims, claim, &snapshot.config_maps);
        let fields = fields.map_err(|message| {
            diagnostics.push(Diagnostic {
                object: claims.ingress.clone(),
                field: "metadata.annotations[custom-headers]".to_owned(),
                reason: Reason::InvalidHeaders,
                message: format!("{message}; its rules answer 503"),
            });
        });
        *claims = Arc::new(with_fields(claims, fields.ok().as_ref()));
    }
    resolved
}

/// The ConfigMap that an Ingress names, which has to be one of its own namespace.
pub(super) fn config_map_of(ingress: &Ingress) -> Option<ObjectRef> {
    let value = crate::annotation::custom_headers_of(&ingress.annotations)?;
    let (namespace, name) = value.trim().split_once('/')?;
    let is_own = *namespace == *ingress.meta.namespace;
    is_own.then(|| ObjectRef {
        kind: "ConfigMap",
        namespace: namespace.into(),
        name: name.into(),
    })
}

fn read(
    claims: &Claims,
    claim: &HeadersClaim,
    config_maps: &List<ConfigMap>,
) -> Result<HeaderFields, String> {
    let reference = claim.name.split_once('/');
    let (wanted_namespace, wanted) =
        reference.ok_or_else(|| format!("`{}` is not `namespace/name`", claim.name))?;
    if *wanted_namespace != *claims.ingress.namespace {
        return Err(format!(
            "ConfigMap `{}` is in another namespace",
            claim.name
        ));
    }
    let mut config_maps = config_maps.iter();
    let found = config_maps.find(|object| {
        namespace(&object.metadata) == wanted_namespace && name(&object.metadata) == wanted
    });
    let object = found.ok_or_else(|| format!("ConfigMap `{}` does not exist", claim.name))?;
    let empty = std::collections::BTreeMap::new();
    let data = object.data.as_ref().unwrap_or(&empty);
    response_headers(data, &claim.allowed)
        .map_err(|error| format!("ConfigMap `{}`: {error}", claim.name))
}

fn with_fields(claims: &Claims, fields: Option<&HeaderFields>) -> Claims {
    let mut claims = claims.clone();
    for claim in &mut claims.rules {
        claim.rule = rule_with_fields(&claim.rule, fields);
    }
    if let Some(default) = &mut claims.default {
        *default = rule_with_fields(default, fields);
    }
    claims
}

fn rule_with_fields(rule: &Rule, fields: Option<&HeaderFields>) -> Arc<Rule> {
    let Some(fields) = fields else {
        return Arc::new(Rule {
            target: Target::Unavailable,
            ..rule.clone()
        });
    };
    let mut filters = rule.policy.filters.to_vec();
    filters.push(Filter::ResponseHeaders(Arc::clone(fields)));
    Arc::new(Rule {
        policy: Arc::new(RoutePolicy {
            filters: filters.into(),
            ..(*rule.policy).clone()
        }),
        ..rule.clone()
    })
}
