//! The filters of a rule, in the order in which nginx would apply them.

use crate::ir::{Filter, RoutePolicy, Rule, Target};

/// Whether clear-text requests of a rule are redirected to HTTPS, for a host that has a TLS section or
/// none.
pub fn redirects_to_https(rule: &Rule, has_tls: bool) -> bool {
    // A redirect of the rule comes before one to HTTPS, and challenges come in clear text.
    let is_exempt =
        matches!(rule.target, Target::Redirect(_)) || rule.origin.path.starts_with(ACME_CHALLENGES);
    !is_exempt && rule.policy.tls_redirect.applies(has_tls)
}

/// The filters of a policy. `redirects` is what [`redirects_to_https`] says of the rule.
pub fn in_order(policy: &RoutePolicy, redirects: bool, has_tls: bool) -> Vec<Filter> {
    let is_first = |filter: &&Filter| {
        matches!(
            filter,
            Filter::Block(_)
                | Filter::AppRoot(_)
                | Filter::Cors(_)
                | Filter::HostRedirect(_)
                | Filter::Respond(_)
        )
    };
    let first = policy.filters.iter().filter(is_first).cloned();
    let redirect = redirects.then_some(Filter::TlsRedirect(policy.tls_redirect));
    let others = policy.filters.iter().filter(|one| !is_first(one)).cloned();
    let hsts = policy.hsts.clone().filter(|_| has_tls).map(Filter::Hsts);
    first.chain(redirect).chain(others).chain(hsts).collect()
}

/// Where certificate authorities look for the answers of HTTP-01.
///
/// Source: ingress-nginx, ConfigMap key `no-tls-redirect-locations`.
const ACME_CHALLENGES: &str = "/.well-known/acme-challenge";
