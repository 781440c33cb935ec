//! What happens to a request between its route and an endpoint: the handshake, the filters of its
//! rule, and the choice of a canary.

use std::net::{IpAddr, Ipv4Addr};
use std::slice;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

use super::{Question, matches};
use crate::filter::{
    Check, Context, Decision, RequestHead, cookie_value, in_order, on_request, redirects_to_https,
};
use crate::ir::{
    BackendKey, Canary, CanaryVote, Config, Filter, Host, HostPattern, Rule, choose_canary,
};

/// What happens to a request between its route and an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Passage {
    /// Whether the client speaks HTTPS.
    pub is_https: bool,
    /// The Secret of the certificate that the server name gets; `None`: the default certificate, or
    /// no TLS.
    pub certificate: Option<String>,
    /// The Service that the connection is passed through to by its server name, unread.
    pub passed_through_to: Option<String>,
    /// The answer of the proxy itself, before an endpoint is asked: a status, with the location of a
    /// redirect; `closed` where the client gets no answer.
    pub answer: Option<String>,
    /// What answers: `source ranges`, `redirect to HTTPS`, …
    pub answered_by: Option<String>,
    /// Checks that the request has to pass, in their order: `authentication`, `rate limit`, …
    pub checks: Vec<String>,
    /// The path that the endpoint gets in place of the client's.
    pub sent_path: Option<String>,
    /// The host that the endpoint gets in place of the client's.
    pub sent_host: Option<String>,
    /// Which canaries there are and which of them gets the request, if there are any.
    pub canaries: Vec<String>,
}

impl Passage {
    pub(super) fn of(
        config: &Config,
        winner: Option<(Option<&HostPattern>, &Arc<Rule>)>,
        question: &Question,
        host: Option<&Host>,
        normalised: &[u8],
    ) -> Self {
        let of_host = winner.and_then(|(pattern, _)| config.hosts.get(pattern?));
        let has_tls = of_host.is_some_and(|rules| rules.has_tls);
        let is_https = question
            .is_https
            .unwrap_or(has_tls || question.sni.is_some());
        let mut passage = Self {
            is_https,
            ..Self::default()
        };
        if is_https && passage.shake_hands(config, question, host) {
            return passage;
        }
        let Some((_, rule)) = winner else {
            return passage;
        };
        passage.filter(rule, has_tls, question, normalised);
        passage.canaries = canaries(rule, &question.headers);
        passage
    }

    /// Follows the handshake. Returns true if no request is read, or none is served.
    fn shake_hands(&mut self, config: &Config, question: &Question, host: Option<&Host>) -> bool {
        let sni = question
            .sni
            .as_deref()
            .and_then(|sni| Host::parse(sni).ok());
        let name = if question.sni.is_some() {
            sni.as_ref()
        } else {
            host
        };
        let passthrough = best(config.hosts.keys(), name);
        let passthrough = passthrough.and_then(|pattern| config.hosts.get(pattern));
        let passthrough = passthrough.and_then(|rules| rules.passthrough.as_ref());
        if let Some(backend) = passthrough {
            self.passed_through_to = Some(backend.to_string());
            return true;
        }
        let certificate = best(config.certificates.keys(), name);
        let certificate = certificate.and_then(|pattern| config.certificates.get(pattern));
        self.certificate = certificate.map(|certificate| certificate.secret.to_string());
        let asked = |name: Option<&Host>| {
            let pattern = best(config.client_auth.keys(), name)?;
            config.client_auth.get(pattern)
        };
        let of_host = asked(host);
        if of_host.is_some() && of_host != asked(name) {
            self.answer = Some("421".to_owned());
            let reason = "client certificates: the server name's host does not ask for the same";
            self.answered_by = Some(reason.to_owned());
            return true;
        }
        if of_host.is_some() {
            self.checks.push("client certificate".to_owned());
        }
        false
    }

    /// Runs the filters as the proxy does, as far as they can be decided.
    fn filter(&mut self, rule: &Rule, has_tls: bool, question: &Question, normalised: &[u8]) {
        let redirects = redirects_to_https(rule, has_tls);
        let context = Context {
            is_https: self.is_https,
            method: &question.method,
            headers: &question.headers,
            authority: &question.authority,
            path: normalised,
            target: question.target.as_bytes(),
            client: question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        };
        let mut headers = HeaderMap::new();
        let mut head = RequestHead {
            headers: &mut headers,
            path: None,
            host: None,
        };
        for filter in in_order(&rule.policy, redirects, has_tls) {
            if question.client.is_none() && matches!(filter, Filter::Access(_)) {
                self.checks.push("source ranges (--from tells)".to_owned());
                continue;
            }
            match on_request(slice::from_ref(&filter), 0, &mut head, &context) {
                Decision::Continue => {}
                Decision::Check { check, .. } => self.checks.push(
                    match check {
                        Check::Authenticate(_) => "authentication",
                        Check::RateLimit(_) => "rate limit",
                    }
                    .to_owned(),
                ),
                Decision::Close => {
                    self.answer = Some("closed".to_owned());
                    self.answered_by = Some(name(&filter).to_owned());
                    return;
                }
                Decision::Respond(answer) => {
                    let location = answer.location.as_ref().map(HeaderValue::as_bytes);
                    let location = location.map(|to| format!(" {}", String::from_utf8_lossy(to)));
                    let status = answer.status.as_u16();
                    self.answer = Some(format!("{status}{}", location.unwrap_or_default()));
                    self.answered_by = Some(name(&filter).to_owned());
                    return;
                }
            }
        }
        self.sent_path = head.path;
        let host = head.host.as_ref();
        self.sent_host = host.map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    }
}

/// What operators call a filter.
fn name(filter: &Filter) -> &'static str {
    match filter {
        Filter::Block(_) => "block list",
        Filter::Access(_) => "source ranges",
        Filter::Authenticate(_) => "authentication",
        Filter::Cors(_) => "CORS preflight",
        Filter::Respond(_) => "answer of a snippet",
        Filter::HostRedirect(_) => "redirect to another host",
        Filter::RateLimit(_) => "rate limit",
        Filter::AppRoot(_) => "app-root",
        Filter::TlsRedirect(_) => "redirect to HTTPS",
        Filter::Rewrite(_) => "rewrite",
        Filter::UpstreamHost(_) | Filter::RequestHeaders(_) => "request fields",
        Filter::ResponseHeaders(_)
        | Filter::HideHeaders(_)
        | Filter::ResponseRewrite(_)
        | Filter::Hsts(_) => "response fields",
    }
}

/// The most specific pattern that a host matches.
fn best<'a>(
    patterns: impl Iterator<Item = &'a HostPattern>,
    host: Option<&Host>,
) -> Option<&'a HostPattern> {
    patterns.filter(|pattern| matches(pattern, host)).min()
}

fn votes<'a>(
    rule: &'a Rule,
    headers: &HeaderMap,
) -> Vec<(&'a Arc<BackendKey>, &'a Canary, CanaryVote)> {
    let backends = rule.target.backends().iter();
    let canaries = backends.filter_map(|one| Some((&one.key, one.canary.as_deref()?)));
    let voted = canaries.map(|(key, canary)| {
        let field = canary.header.as_ref();
        let field = field.and_then(|header| headers.get(&*header.name));
        let cookie = canary.cookie.as_ref();
        let cookie = cookie.and_then(|name| cookie_value(headers, name));
        let vote = canary.vote(field.map(HeaderValue::as_bytes), cookie);
        (key, canary, vote)
    });
    voted.collect()
}

/// The canary that gets the request whatever the weights draw; `None`: the main backend, or as the
/// weights draw.
pub(super) fn canary<'a>(rule: &'a Rule, headers: &HeaderMap) -> Option<&'a Arc<BackendKey>> {
    let votes = votes(rule, headers);
    let canaries: Vec<&Canary> = votes.iter().map(|(_, canary, _)| *canary).collect();
    let choose = |random| choose_canary(&canaries, |index| votes[index].2, random);
    // The lowest and the highest draw.
    let (first, last) = (choose(0), choose(u64::MAX));
    first.filter(|_| first == last).map(|index| votes[index].0)
}

fn canaries(rule: &Rule, headers: &HeaderMap) -> Vec<String> {
    let chosen = canary(rule, headers);
    let line = |(key, canary, vote): (&Arc<BackendKey>, &Canary, CanaryVote)| match vote {
        _ if chosen == Some(key) => format!("{key} gets the request"),
        CanaryVote::No => format!("{key} refuses it by header or cookie"),
        CanaryVote::Yes => format!("{key} asks for it, and another canary comes first"),
        CanaryVote::Undecided if chosen.is_some() => format!("{key} does not get it"),
        CanaryVote::Undecided => {
            format!("{key} gets {} of {} by weight", canary.weight, canary.total)
        }
    };
    votes(rule, headers).into_iter().map(line).collect()
}
