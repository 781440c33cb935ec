//! Which object serves a request, and why no other does: `sluice explain`.
//!
//! Goes the way of a request through the compiled routes and the filters of its rule, with the
//! functions that the proxy calls, then over everything that our Ingresses ask for, and says of each
//! rule of the host why it lost.

mod passage;
mod reason;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderMap;
use serde::{Deserialize, Serialize};

pub use self::passage::Passage;
use self::reason::{loser, unmet};
use crate::ir::{Config, Host, HostPattern, PathPattern, Rule, Target};
use crate::route::{RouteTable, normalise};
use crate::snapshot::Snapshot;
use crate::translate::{Options, claimed, translate};

/// A request that is explained.
#[derive(Clone, Debug)]
pub struct Question {
    /// The host and maybe a port.
    pub authority: String,
    /// The path and maybe a query.
    pub target: String,
    /// The method.
    pub method: String,
    /// The fields of the request.
    pub headers: HeaderMap,
    /// The server name of the client's TLS handshake.
    pub sni: Option<String>,
    /// Whether the client speaks HTTPS; `None`: as it should to this host.
    pub is_https: Option<bool>,
    /// The client's address.
    pub client: Option<IpAddr>,
}

impl Question {
    /// A `GET` without fields.
    pub fn new(authority: &str, target: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            target: target.to_owned(),
            method: "GET".to_owned(),
            headers: HeaderMap::new(),
            sni: None,
            is_https: None,
            client: None,
        }
    }

    /// Path and query as a client sends them.
    fn path_and_query(&self) -> (&str, &str) {
        let target = self.target.split('#').next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        (if path.is_empty() { "/" } else { path }, query)
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The host that was asked for, without port, in lower case.
    pub host: String,
    /// The path that was asked for.
    pub path: String,
    /// Who serves it; `None`: nobody, the answer is 404.
    pub served_by: Option<Server>,
    /// What happens on the way there.
    #[serde(default)]
    pub passage: Passage,
    /// What matches as well and lost, best first, and then the other rules of the host.
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

/// A rule of the host that does not serve the request.
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

/// Explains a request.
pub fn explain(snapshot: &Snapshot, options: &Options, question: &Question) -> Explanation {
    let translation = translate(snapshot, options);
    let config = &translation.config;
    let (path, query) = question.path_and_query();
    let name = host_of(&question.authority);
    let default = config.default_backend.as_ref();
    let table = RouteTable::compile(&config.hosts, default, |host, _| host.cloned());
    let normalised = normalise(path.as_bytes()).unwrap_or(Cow::Borrowed(path.as_bytes()));
    let meets = |conditions: &_| unmet(conditions, question, query).is_none();
    let route = table.find_where(&question.authority, &normalised, meets);
    let winner = route.map(|route| (route.payload.as_ref(), &route.rule));
    let served_by = winner.map(|(host, rule)| server(config, host, rule, question));
    let passage = Passage::of(config, winner, question, name.as_ref(), &normalised);
    let mut lost: Vec<(bool, Rank, Loser)> = Vec::new();
    let mut is_winner_seen = false;
    for claim in claimed(snapshot, options) {
        if !matches(&claim.host, name.as_ref()) {
            continue;
        }
        // The oldest claim of the winning rule is the winner; an equal one is a loser.
        let is_winner = winner.is_some_and(|(host, rule)| {
            rule.origin == claim.rule.origin && host.unwrap_or(&HostPattern::Any) == &claim.host
        });
        if is_winner && !std::mem::replace(&mut is_winner_seen, true) {
            continue;
        }
        let path_fits = claim.rule.matches.path.matches(&normalised);
        let conditions = claim.rule.matches.conditions.as_deref();
        let unmet = conditions.and_then(|conditions| unmet(conditions, question, query));
        let is_match = path_fits && unmet.is_none();
        // Rules of less specific hosts are not looked at.
        let is_of_winning_host = winner.is_none_or(|(host, _)| host == Some(&claim.host));
        if !is_match && !is_of_winning_host {
            continue;
        }
        let rank = (
            claim.host.clone(),
            claim.is_default,
            claim.rule.matches.path.clone(),
        );
        let reason = reason::of(&claim, winner, path_fits, unmet);
        lost.push((!is_match, rank, loser(&claim, reason)));
    }
    lost.sort_by(|(a_fails, a, _), (b_fails, b, _)| (a_fails, a).cmp(&(b_fails, b)));
    let lost: Vec<Loser> = lost.into_iter().map(|(_, _, loser)| loser).collect();
    let is_concerned = |object: &str| {
        let is_server = served_by
            .as_ref()
            .is_some_and(|server| server.object == object);
        is_server || lost.iter().any(|loser| loser.object == object)
    };
    let problems = translation.diagnostics.iter();
    let problems = problems.filter(|one| is_concerned(&one.object.to_string()));
    Explanation {
        host: name.map_or_else(|| question.authority.clone(), |name| name.to_string()),
        path: path.to_owned(),
        problems: problems.map(ToString::to_string).collect(),
        served_by,
        passage,
        lost,
    }
}

/// Precedence: host, then rules before default backends, then path.
type Rank = (HostPattern, bool, PathPattern);

fn server(
    config: &Config,
    host: Option<&HostPattern>,
    rule: &Arc<Rule>,
    question: &Question,
) -> Server {
    let asked = passage::canary(rule, &question.headers);
    let backend = asked.or_else(|| rule.target.primary());
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
