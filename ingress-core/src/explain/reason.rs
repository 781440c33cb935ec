//! Why a rule does not serve a request.

use std::sync::Arc;

use super::{Loser, Question};
use crate::ir::{Conditions, HostPattern, PathPattern, Rule};
use crate::translate::Claimed;

/// The condition that a request does not meet; the same as the proxy's `is_met`.
pub(super) fn unmet(conditions: &Conditions, question: &Question, query: &str) -> Option<String> {
    let Conditions {
        method,
        headers,
        query: parameters,
    } = conditions;
    if let Some(method) = method
        && **method != *question.method
    {
        return Some(format!("method is {}, expected {method}", question.method));
    }
    for field in headers {
        let mut lines = question.headers.get_all(&*field.name).iter();
        if !lines.any(|line| line.as_bytes() == field.value.as_bytes()) {
            return Some(format!(
                "header `{}: {}` is absent",
                field.name, field.value
            ));
        }
    }
    for parameter in parameters {
        let wanted = format!("{}={}", parameter.name, parameter.value);
        if !query.split('&').any(|one| one == wanted) {
            return Some(format!("query parameter `{wanted}` is absent"));
        }
    }
    None
}

/// Why a claim lost against the winner.
pub(super) fn of(
    claim: &Claimed,
    winner: Option<(Option<&HostPattern>, &Arc<Rule>)>,
    path_fits: bool,
    unmet: Option<String>,
) -> String {
    if !path_fits {
        let path = &claim.rule.origin.path;
        return match &claim.rule.matches.path {
            PathPattern::Exact(_) => format!("path is not `{path}`"),
            PathPattern::Prefix(_) => format!("path does not begin with the elements of `{path}`"),
            PathPattern::Regex(_) => format!("path does not match the expression `{path}`"),
        };
    }
    if let Some(unmet) = unmet {
        return unmet;
    }
    let Some((host, rule)) = winner else {
        return "the host is named by another Ingress, and none of its rules matches".to_owned();
    };
    let host = host.unwrap_or(&HostPattern::Any);
    let who = &rule.origin.ingress;
    let winning = &rule.origin.path;
    if *host != claim.host {
        format!(
            "host `{}` is less specific than `{host}` of {who}",
            claim.host
        )
    } else if claim.is_default && !winning.is_empty() {
        format!("a default backend serves what no rule matches, and a rule of {who} does")
    } else if claim.rule.matches == rule.matches {
        format!("{who} is older and has the same host and path")
    } else if claim.rule.matches.path == rule.matches.path {
        format!("the rule for `{winning}` of {who} asks for more than the path")
    } else if rule.matches.path.as_str().len() > claim.rule.matches.path.as_str().len() {
        format!("path `{winning}` of {who} is longer")
    } else if matches!(rule.matches.path, PathPattern::Exact(_)) {
        format!("path `{winning}` of {who} is exact")
    } else {
        format!("path `{winning}` of {who} comes first among those of its length")
    }
}

/// The loser of a claim.
pub(super) fn loser(claim: &Claimed, reason: String) -> Loser {
    Loser {
        object: claim.rule.origin.ingress.to_string(),
        field: claim.field.clone(),
        host: claim.host.to_string(),
        path: claim.rule.origin.path.to_string(),
        reason,
    }
}
