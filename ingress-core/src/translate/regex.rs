//! Hosts whose paths are all regular expressions, as with ingress-nginx.
//!
//! Source: ingress-nginx writes every location of a host as `location ~* "^PATH"` once one of its
//! Ingresses has `use-regex` or `rewrite-target`, also those of other Ingresses and `Exact` ones.

use std::sync::Arc;

use crate::ir::{HostRules, PathPattern, PathRegex, RouteMatch, Rule};

/// Makes expressions of all paths of a host if one of them is an expression. A path that is not a
/// valid expression stays as it is, and so do the paths that the proxy answers itself.
pub(super) fn spread(host: &mut HostRules) {
    let is_regex = |rule: &Arc<Rule>| matches!(rule.matches.path, PathPattern::Regex(_));
    if !host.rules.iter().any(is_regex) {
        return;
    }
    for rule in &mut host.rules {
        if is_regex(rule) || rule.is_own_path() {
            continue;
        }
        let text = &rule.origin.path;
        if text.is_empty() {
            continue;
        }
        let Ok(regex) = PathRegex::new(text) else {
            continue;
        };
        *rule = Arc::new(Rule {
            matches: RouteMatch {
                path: PathPattern::Regex(Arc::new(regex)),
                conditions: rule.matches.conditions.clone(),
            },
            ..(**rule).clone()
        });
    }
    host.rules.sort_by(|a, b| a.matches.cmp(&b.matches));
    // `Exact` and `Prefix` of one path are the same expression; the first was the older.
    host.rules.dedup_by(|a, b| a.matches == b.matches);
}
