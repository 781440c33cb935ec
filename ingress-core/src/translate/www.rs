//! Step 3c: hosts with `www.`, or without it, that are redirected to the ones of rules.
//!
//! Source: ingress-nginx, annotation `from-to-www-redirect`: nothing happens to a host that an Ingress
//! names.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::claim::Claims;
use crate::ir::{
    Filter, Host, HostPattern, HostRedirect, HostRules, PathPattern, RoutePolicy, Rule, RuleOrigin,
    Target,
};

/// Adds the redirects of all Ingresses that ask for them, given oldest first.
pub(super) fn add(hosts: &mut BTreeMap<HostPattern, HostRules>, claims: &[Arc<Claims>]) {
    for claims in claims {
        let Some(code) = claims.redirects_www else {
            continue;
        };
        for host in &claims.hosts {
            let HostPattern::Exact(host) = host else {
                continue;
            };
            let Some(sibling) = sibling(host) else {
                continue;
            };
            let rules = hosts.entry(HostPattern::Exact(sibling));
            rules.or_insert_with(|| HostRules {
                rules: vec![redirect(claims, host, code)],
                ..HostRules::default()
            });
        }
    }
}

fn sibling(host: &Host) -> Option<Host> {
    let text = match host.as_str().strip_prefix("www.") {
        Some(rest) => rest.to_owned(),
        None => format!("www.{host}"),
    };
    Host::parse(&text).ok()
}

fn redirect(claims: &Claims, host: &Host, code: u16) -> Arc<Rule> {
    let redirect = HostRedirect {
        host: host.as_str().into(),
        code,
    };
    Arc::new(Rule {
        matches: PathPattern::prefix("/").into(),
        // Not reached: the filter answers every request.
        target: Target::Respond(404),
        policy: Arc::new(RoutePolicy {
            filters: [Filter::HostRedirect(Arc::new(redirect))].into(),
            ..RoutePolicy::default()
        }),
        origin: RuleOrigin {
            ingress: claims.ingress.clone(),
            path: "/".into(),
        },
    })
}
