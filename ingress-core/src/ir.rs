//! The intermediate representation: what a set of Ingress objects means, as plain data.
//!
//! `translate` writes it; `route`, and the proxy through it, read it. It imports nothing else of
//! ours but `shared` and `sorted`, and knows neither Kubernetes types nor sockets. Two equal
//! observations give equal configurations, so `==` tells whether anything has to be published.

mod acme;
mod authentication;
mod backend;
mod balance;
mod bandwidth;
mod block;
mod canary;
mod certificate;
mod client_auth;
mod compression;
mod condition;
mod cors;
mod error_pages;
mod filter;
mod health_check;
mod host;
mod jwt;
mod matches;
mod mirror;
mod oidc;
mod policy;
mod process;
mod rate_limit;
mod response_rewrite;
mod retry;
mod rule;
mod stream;
mod substitution;
mod target;
mod template;
mod tls_redirect;
mod upstream_tls;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::shared::Shared;
use crate::sorted::SortedMap;

pub use acme::{Acme, Challenge, ChallengeKind, OrderFailure, OrderTotals, OrderedCertificate};
pub use authentication::{AuthCache, Authentication, BasicAuth, ExternalAuth, Satisfy, Users};
pub use backend::{
    Backend, BackendKey, BackendKeyError, BackendPolicy, Endpoint, ServicePort, UpstreamProtocol,
};
pub use balance::{Affinity, AffinityMode, Balance, HashBy};
pub use bandwidth::Bandwidth;
pub use block::{Block, BlockPattern};
pub use canary::{
    Canary, CanaryHeader, CanaryPattern, CanaryValue, CanaryVote, choose as choose_canary,
};
pub use certificate::Certificate;
pub use client_auth::{Authorities, ClientAuth, CommonName, CommonNameError, VerifyMode};
pub use compression::{Coding, Compression, CompressionMethod};
pub use condition::{Condition, PathTest, TextPattern, ValueTest};
pub use cors::{Cors, CorsOrigins, OriginPattern};
pub use error_pages::ErrorPages;
pub use filter::{
    AccessList, Denial, Filter, HeaderFields, HostRedirect, Respond, Rewrite, TemplateFields,
    TemplatePart,
};
pub use health_check::{HealthCheck, HttpProbe, Probe};
pub use host::{Host, HostError, HostPattern};
pub use jwt::{JwtAlgorithm, JwtAuth, JwtKeys};
pub use matches::{Conditions, PathPattern, PathRegex, RouteMatch, ValueMatch};
pub use mirror::Mirror;
pub use oidc::{OidcAuth, OidcClient, OidcPath};
pub use policy::{RequestBuffering, RoutePolicy, RouteTimeouts};
pub use process::ProcessSettings;
pub use rate_limit::{Rate, RateLimit};
pub use response_rewrite::{Replacement, ResponseRewrite};
pub use retry::{Retries, RetryAfter, RetryCause};
pub use rule::{HostRules, ObjectRef, Rule, RuleOrigin};
pub use stream::{ProxyVersion, TcpService, TcpServiceError, UdpService};
pub use substitution::Substitution;
pub use target::{Redirect, Target, WeightedBackend};
pub use template::{Part, Template, Variable};
pub use tls_redirect::{Hsts, TlsRedirect, TlsRedirectMode};
pub use upstream_tls::{ClientIdentity, UpstreamTls};

/// Everything that the proxy serves at one instant.
///
/// Maps and values are shared between generations where they have not changed, and what changed is
/// found by comparing pointers first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// The rules of each host. A request is served by the most specific host pattern that
    /// matches it and never falls through to a less specific one.
    pub hosts: Shared<BTreeMap<HostPattern, Arc<HostRules>>>,
    /// Serves a request that no host pattern matches: the `defaultBackend` of the oldest Ingress
    /// without rules, else the controller's own default backend.
    pub default_backend: Option<Arc<Rule>>,
    /// Every backend that a rule names, with its endpoints.
    pub backends: SortedMap<Arc<BackendKey>, Arc<Backend>>,
    /// Certificates by the host pattern of the TLS section that names them.
    pub certificates: Shared<BTreeMap<HostPattern, Arc<Certificate>>>,
    /// What clients have to show, by the host pattern that asks for it.
    pub client_auth: Shared<BTreeMap<HostPattern, Arc<ClientAuth>>>,
    /// TCP services by the port that clients dial.
    pub tcp_services: BTreeMap<u16, TcpService>,
    /// UDP services by the port that clients send to.
    pub udp_services: BTreeMap<u16, UdpService>,
    /// What the operator says about the process, in place of its flags.
    pub process: Arc<ProcessSettings>,
    /// Challenges to answer and the state of orders; `None` if there is no ACME issuer.
    pub acme: Option<Arc<Acme>>,
}

impl Config {
    /// The endpoints that speak HTTP/1.1 without TLS to everybody who names them.
    ///
    /// Those that anything names as streams or datagrams, or with TLS, are none: their bytes may be those
    /// of any protocol.
    pub fn plain_endpoints(&self) -> BTreeSet<SocketAddr> {
        let passed_through = self.hosts.values();
        let passed_through = passed_through.filter_map(|host| host.passthrough.as_ref());
        let services = self.tcp_services.values().map(|service| &service.backend);
        let streams: &BTreeSet<_> = &passed_through.chain(services).collect();
        let of = |is_plain: bool| {
            let backends = self.backends.values();
            let backends = backends.filter(move |backend| {
                let is_http = backend.protocol == UpstreamProtocol::Http1;
                (is_http && !streams.contains(&backend.key)) == is_plain
            });
            backends.flat_map(|backend| backend.endpoints.iter().chain(&backend.draining))
        };
        let mut plain: BTreeSet<_> = of(true).map(|endpoint| endpoint.address).collect();
        for endpoint in of(false) {
            plain.remove(&endpoint.address);
        }
        plain
    }

    /// The hosts whose rules differ from those of a previous configuration, with their rules now
    /// (`None`: gone), as `RouteTable::with_changes` takes them.
    ///
    /// Nothing is looked at where the hosts are shared as a whole. Else walks both maps side by
    /// side; an unchanged host whose rules are shared costs a comparison of pointers.
    pub fn host_changes<'a>(
        &'a self,
        previous: &'a Self,
    ) -> Vec<(&'a HostPattern, Option<&'a Arc<HostRules>>)> {
        let mut changes = Vec::new();
        if self.hosts.is(&previous.hosts) {
            return changes;
        }
        let mut before = previous.hosts.iter().peekable();
        for (host, rules) in &self.hosts {
            while let Some((gone, _)) = before.next_if(|(old, _)| *old < host) {
                changes.push((gone, None));
            }
            let same = before
                .next_if(|(old, _)| *old == host)
                .is_some_and(|(_, old)| Arc::ptr_eq(old, rules) || old == rules);
            if !same {
                changes.push((host, Some(rules)));
            }
        }
        changes.extend(before.map(|(gone, _)| (gone, None)));
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(hosts: &[(&str, Option<&str>)]) -> Config {
        let hosts = hosts.iter().map(|(host, default)| {
            let default = default.map(|path| {
                let ingress = ObjectRef {
                    kind: "Ingress",
                    namespace: "a".into(),
                    name: "b".into(),
                };
                let origin = RuleOrigin {
                    ingress,
                    path: path.into(),
                };
                let target = Target::Unavailable;
                Arc::new(Rule {
                    matches: PathPattern::prefix("/").into(),
                    target,
                    policy: Arc::default(),
                    origin,
                })
            });
            let rules = HostRules {
                default,
                ..HostRules::default()
            };
            (HostPattern::parse(host).unwrap(), Arc::new(rules))
        });
        Config {
            hosts: hosts.collect(),
            ..Config::default()
        }
    }

    #[test]
    fn host_changes_name_added_changed_and_gone_hosts_only() {
        let before = config(&[("a.test", None), ("b.test", None), ("c.test", Some("/x"))]);
        let after = config(&[("b.test", None), ("c.test", Some("/y")), ("d.test", None)]);
        let changes: Vec<_> = (after.host_changes(&before).into_iter())
            .map(|(host, rules)| (host.to_string(), rules.is_some()))
            .collect();
        let expected = [("a.test", false), ("c.test", true), ("d.test", true)];
        assert_eq!(
            changes,
            expected.map(|(host, some)| (host.to_owned(), some))
        );
        assert!(after.host_changes(&after.clone()).is_empty());
    }

    #[test]
    fn paths_are_in_order_of_precedence_by_length_then_exactness() {
        let exact = |text: &str| PathPattern::Exact(text.into());
        let expected = [
            exact("/foo/"),
            exact("/foo"),
            PathPattern::prefix("/foo/"),
            PathPattern::prefix("/"),
        ];
        let mut sorted = expected.clone();
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, expected);
    }

    #[test]
    fn a_backend_key_is_read_back_from_its_text() {
        for text in ["shop/web:80", "shop/web:http"] {
            assert_eq!(text.parse::<BackendKey>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "web:80",
            "shop/web",
            "/web:80",
            "shop/:80",
            "shop/web:",
            "shop/web:0",
            "shop/web:70000",
            "a/b/c:80",
        ] {
            assert_eq!(text.parse::<BackendKey>(), Err(BackendKeyError), "{text}");
        }
    }
}
