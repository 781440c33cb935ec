//! Which object serves a request, and why no other does: `sluice explain`.
//!
//! Goes the way of a request through the compiled routes, then over everything that our Ingresses
//! ask for, and says of each part that matches as well why it lost.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ir::{Config, Host, HostPattern, PathPattern, Rule, Target};
use crate::route::{RouteTable, normalise};
use crate::snapshot::Snapshot;
use crate::translate::{Claimed, Options, claimed, translate};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The host that was asked for, without port, in lower case.
    pub host: String,
    /// The path that was asked for.
    pub path: String,
    /// Who serves it; `None`: nobody, the answer is 404.
    pub served_by: Option<Server>,
    /// What matches as well and lost, best first.
    pub lost: Vec<Loser>,
    /// What is wrong with the objects that have a part in this.
    pub problems: Vec<String>,
}

/// Who serves a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// The object whose rule it is, such as `Ingress shop/web`.
    pub object: String,
    /// The host pattern that matched; `*` is every host.
    pub host: String,
    /// The path as the rule has it; empty for a default backend.
    pub path: String,
    /// The answer of rules that ask no endpoint: a status, with the location of a redirect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The Service and its port, as `namespace/name:port`; `None` where no endpoint is asked.
    pub backend: Option<String>,
    /// What the endpoints speak: `Http1`, `Https`, `Http2` or `Http2Tls`.
    pub protocol: Option<String>,
    /// Addresses that take requests; with none, the answer is 503.
    pub endpoints: Vec<String>,
    /// Addresses that finish what they have and take nothing new.
    pub draining: Vec<String>,
}

/// A rule that matches the request as well.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loser {
    /// The object whose rule it is.
    pub object: String,
    /// The field of the object.
    pub field: String,
    /// Its host pattern.
    pub host: String,
    /// Its path; empty for a default backend.
    pub path: String,
    /// Why another serves the request.
    pub reason: String,
}

/// Explains a request for `authority` (host, maybe with a port) and `path` (a query is ignored).
pub fn explain(snapshot: &Snapshot, options: &Options, authority: &str, path: &str) -> Explanation {
    let translation = translate(snapshot, options);
    let config = &translation.config;
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let path = if path.is_empty() { "/" } else { path };
    let name = host_of(authority);
    let default = config.default_backend.as_ref();
    let table = RouteTable::compile(&config.hosts, default, |host, _| host.cloned());
    let normalised = normalise(path.as_bytes()).unwrap_or(Cow::Borrowed(path.as_bytes()));
    let route = table.find(authority, &normalised);
    let winner = route.map(|route| (route.payload.as_ref(), &route.rule));
    let served_by = winner.map(|(host, rule)| server(config, host, rule));
    let matching = claimed(snapshot, options).into_iter().filter(|claim| {
        let is_host = matches(&claim.host, name.as_ref());
        is_host && claim.rule.matches.path.matches(&normalised)
    });
    let mut lost: Vec<(Rank, Loser)> = Vec::new();
    let mut is_winner_seen = false;
    for claim in matching {
        // The oldest claim of the winning rule is the winner; an equal one is a loser.
        let is_winner = winner.is_some_and(|(host, rule)| {
            rule.origin == claim.rule.origin && host.unwrap_or(&HostPattern::Any) == &claim.host
        });
        if is_winner && !std::mem::replace(&mut is_winner_seen, true) {
            continue;
        }
        let rank = (
            claim.host.clone(),
            claim.is_default,
            claim.rule.matches.path.clone(),
        );
        lost.push((rank, loser(&claim, winner)));
    }
    lost.sort_by(|(a, _), (b, _)| a.cmp(b));
    let lost: Vec<Loser> = lost.into_iter().map(|(_, loser)| loser).collect();
    let is_concerned = |object: &str| {
        let is_server = served_by
            .as_ref()
            .is_some_and(|server| server.object == object);
        is_server || lost.iter().any(|loser| loser.object == object)
    };
    let problems = translation.diagnostics.iter();
    let problems = problems.filter(|one| is_concerned(&one.object.to_string()));
    Explanation {
        host: name.map_or_else(|| authority.to_owned(), |name| name.to_string()),
        path: path.to_owned(),
        problems: problems.map(ToString::to_string).collect(),
        served_by,
        lost,
    }
}

/// Precedence: host, then rules before default backends, then path.
type Rank = (HostPattern, bool, PathPattern);

fn server(config: &Config, host: Option<&HostPattern>, rule: &Arc<Rule>) -> Server {
    let backend = rule.target.primary();
    let backend = backend.and_then(|key| config.backends.get(key));
    let answer = match &rule.target {
        Target::Backends(_) => None,
        Target::Redirect(redirect) => Some(format!("{} {}", redirect.code, redirect.location)),
        Target::Respond(status) => Some(status.to_string()),
        Target::Unavailable => Some("503".to_owned()),
    };
    let texts = |endpoints: &[crate::ir::Endpoint]| {
        let texts = endpoints
            .iter()
            .map(|endpoint| endpoint.address.to_string());
        texts.collect::<Vec<_>>()
    };
    Server {
        object: rule.origin.ingress.to_string(),
        host: host.unwrap_or(&HostPattern::Any).to_string(),
        path: rule.origin.path.to_string(),
        answer,
        backend: backend.map(|backend| backend.key.to_string()),
        protocol: backend.map(|backend| format!("{:?}", backend.protocol)),
        endpoints: backend
            .map(|backend| texts(&backend.endpoints))
            .unwrap_or_default(),
        draining: backend
            .map(|backend| texts(&backend.draining))
            .unwrap_or_default(),
    }
}

fn loser(claim: &Claimed, winner: Option<(Option<&HostPattern>, &Arc<Rule>)>) -> Loser {
    let reason = match winner {
        None => "the host is named by another Ingress, and none of its rules matches".to_owned(),
        Some((host, rule)) => {
            let host = host.unwrap_or(&HostPattern::Any);
            let who = &rule.origin.ingress;
            if *host != claim.host {
                format!(
                    "host `{}` is less specific than `{host}` of {who}",
                    claim.host
                )
            } else if claim.is_default && !rule.origin.path.is_empty() {
                format!("a default backend serves what no rule matches, and a rule of {who} does")
            } else if claim.rule.matches == rule.matches {
                format!("{who} is older and has the same host and path")
            } else {
                format!("path `{}` of {who} is longer, or exact", rule.origin.path)
            }
        }
    };
    Loser {
        object: claim.rule.origin.ingress.to_string(),
        field: claim.field.clone(),
        host: claim.host.to_string(),
        path: claim.rule.origin.path.to_string(),
        reason,
    }
}

fn host_of(authority: &str) -> Option<Host> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => authority,
    };
    Host::parse(name).ok()
}

fn matches(pattern: &HostPattern, host: Option<&Host>) -> bool {
    match (pattern, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Exact(pattern), Some(host)) => pattern == host,
        (HostPattern::Wildcard(parent), Some(host)) => {
            let rest = host.as_str().split_once('.').map(|(_, rest)| rest);
            rest == Some(parent.as_str())
        }
        (HostPattern::Exact(_) | HostPattern::Wildcard(_), None) => false,
    }
}
