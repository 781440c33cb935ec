//! Step 2: what one Ingress asks for.
//!
//! Architecture invariant: a function of one Ingress object and of what its class says, so that
//! an incremental translator can keep the result for as long as neither changes.

mod annotations;
mod field;
mod own_paths;
mod policy;

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::annotation::basic_auth::BasicAuthSettings;
use crate::annotation::client_auth::ClientAuthSettings;
use crate::annotation::jwt::JwksSource;
use crate::annotation::upstream_tls::UpstreamTlsSettings;
use crate::annotation::{self, Settings};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{
    BackendKey, Canary, HostPattern, ObjectRef, PathPattern, RoutePolicy, Rule, RuleOrigin, Target,
};
use crate::object::{
    Ingress, IngressBackend, IngressPath, IngressRule, IngressTls, PathType, ResourceBackend,
};
use field::{read_path, read_port, read_regex};

/// Everything that one Ingress asks for.
#[derive(Clone)]
pub(super) struct Claims {
    pub(super) ingress: ObjectRef,
    /// The hosts of its rules, also of rules without any usable path.
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) rules: Box<[RuleClaim]>,
    /// `spec.defaultBackend`.
    pub(super) default: Option<Arc<Rule>>,
    pub(super) scope: DefaultScope,
    pub(super) certificates: Box<[CertificateClaim]>,
    /// The hosts that its TLS sections name.
    pub(super) tls_hosts: Box<[HostPattern]>,
    /// Whether TLS connections to its hosts are to be passed through.
    pub(super) passthrough: bool,
    /// The objects that its annotations name.
    pub(super) references: Option<Box<References>>,
    /// Which requests its backends get, if it is a canary.
    pub(super) canary: Option<Arc<Canary>>,
    /// Its rules at hosts beside its own, which other Ingresses may take away.
    pub(super) alias_rules: Box<[RuleClaim]>,
    /// The status of redirects from the hosts with `www.` or without, if there are any.
    pub(super) redirects_www: Option<u16>,
    /// That clients have to show certificates.
    pub(super) client_auth: Option<Box<ClientAuthClaim>>,
    /// The ACME issuer of its certificates.
    pub(super) acme: Option<Arc<str>>,
    pub(super) diagnostics: Box<[Diagnostic]>,
}

/// What the default backend of an Ingress is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum DefaultScope {
    /// The hosts of its rules.
    Hosts,
    /// There are no rules: every host that nobody names.
    Everything,
}

/// One path of one host.
#[derive(Clone)]
pub(super) struct RuleClaim {
    pub(super) host: HostPattern,
    pub(super) rule: Arc<Rule>,
    pub(super) field: RuleField,
}

/// One TLS section that names a Secret.
#[derive(Clone)]
pub(super) struct CertificateClaim {
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) secret: Arc<str>,
    /// Its place in `spec.tls`.
    pub(super) index: usize,
}

/// The objects that annotations refer to, beside backends.
#[derive(Clone, Default, PartialEq)]
pub(super) struct References {
    /// The ConfigMap of fields for responses.
    pub(super) custom_headers: Option<Arc<str>>,
    /// The names of fields that it may have.
    pub(super) response_headers_allowed: Arc<[Box<str>]>,
    /// The Secret of users.
    pub(super) users: Option<BasicAuthSettings>,
    /// The ConfigMap of fields for the service that decides about requests.
    pub(super) auth_headers: Option<Arc<str>>,
    /// The object with the keys that sign tokens.
    pub(super) jwks: Option<JwksSource>,
    /// The Secret with the account at an OpenID provider.
    pub(super) oidc: Option<Arc<str>>,
    /// The Secret for TLS to endpoints.
    pub(super) tls: Option<UpstreamTlsSettings>,
    /// The Service that answers in place of errors.
    pub(super) error_backend: Option<Arc<str>>,
}

/// An annotation that asks for client certificates.
#[derive(Clone)]
pub(super) struct ClientAuthClaim {
    pub(super) settings: ClientAuthSettings,
    /// The annotation that names the Secret.
    pub(super) field: String,
}

/// Where in an Ingress a rule stands; written out only when there is something to say about it.
#[derive(Clone, Copy)]
pub(super) enum RuleField {
    Path {
        rule: usize,
        path: usize,
    },
    DefaultBackend,
    /// An annotation names the path.
    Annotation(&'static str),
}

impl RuleField {
    pub(super) fn backend(self) -> String {
        match self {
            Self::Path { .. } => format!("{self}.backend"),
            Self::DefaultBackend | Self::Annotation(_) => self.to_string(),
        }
    }

    pub(super) fn path(self) -> String {
        match self {
            Self::Path { .. } => format!("{self}.path"),
            Self::DefaultBackend | Self::Annotation(_) => self.to_string(),
        }
    }
}

impl fmt::Display for RuleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { rule, path } => write!(f, "spec.rules[{rule}].http.paths[{path}]"),
            Self::DefaultBackend => f.write_str("spec.defaultBackend"),
            Self::Annotation(key) => write!(f, "metadata.annotations[{key}]"),
        }
    }
}

/// Reads one Ingress, of a class with these settings. Annotations of `ignored` keys are left out.
pub(super) fn read(ingress: &Ingress, class: &Settings, ignored: &BTreeSet<String>) -> Claims {
    let rules = &ingress.rules;
    let scope = if rules.is_empty() {
        DefaultScope::Everything
    } else {
        DefaultScope::Hosts
    };
    let mut reader = Reader {
        ingress: ingress.meta.reference("Ingress"),
        settings: class.clone(),
        policy: Arc::default(),
        diagnostics: Vec::new(),
    };
    reader.annotations(ingress, ignored);
    reader.policy = reader.policy("/");

    let (hosts, mut claims) = reader.rules(rules);
    let own_paths = reader.own_paths(&claims);
    claims.extend(own_paths);
    let default = ingress.default_backend.as_deref();
    let default = default.map(|backend| reader.default_backend(backend));
    let mut tls_hosts = Vec::new();
    let certificates = (ingress.tls.iter().enumerate())
        .filter_map(|(index, section)| reader.certificate(index, section, &hosts, &mut tls_hosts))
        .collect();
    tls_hosts.sort_unstable();
    tls_hosts.dedup();
    let key = annotation::client_auth::secret_key(&ingress.annotations);
    let client_auth = key.map(|key| {
        Box::new(ClientAuthClaim {
            settings: reader.settings.client_auth.clone(),
            field: format!("metadata.annotations[{key}]"),
        })
    });
    let Reader {
        ingress,
        settings,
        diagnostics,
        ..
    } = reader;
    let references = references(&settings);
    let alias_rules = alias_rules(&claims, &settings.aliases);
    let redirects_www = settings.redirects_www.then(|| settings.redirect_code());
    Claims {
        ingress,
        hosts: hosts.into(),
        rules: claims.into(),
        default,
        scope,
        certificates,
        tls_hosts: tls_hosts.into(),
        passthrough: settings.passthrough,
        references,
        canary: settings.canary(),
        alias_rules,
        redirects_www,
        client_auth,
        acme: settings.acme_issuer.clone(),
        diagnostics: diagnostics.into(),
    }
}

/// The rules at further hosts: each path once, by the rule that names it first.
fn alias_rules(rules: &[RuleClaim], aliases: &[HostPattern]) -> Box<[RuleClaim]> {
    let at = |host: &HostPattern| {
        let mut claims: Vec<RuleClaim> = Vec::new();
        for claim in rules {
            if claims
                .iter()
                .all(|known| known.rule.matches != claim.rule.matches)
            {
                claims.push(RuleClaim {
                    host: host.clone(),
                    ..claim.clone()
                });
            }
        }
        claims
    };
    aliases.iter().flat_map(at).collect()
}

/// The objects that settings refer to, if they do.
fn references(settings: &Settings) -> Option<Box<References>> {
    let basic = &settings.basic_auth;
    let has_users = basic.is_on && basic.secret.is_some();
    let tls = &settings.upstream_tls;
    let references = References {
        custom_headers: settings.custom_headers.clone(),
        response_headers_allowed: Arc::default(),
        users: has_users.then(|| basic.clone()),
        auth_headers: settings.external_auth.request_headers().cloned(),
        jwks: settings.jwt.source.clone(),
        oidc: settings.oidc.secret.clone(),
        tls: tls.secret.is_some().then(|| tls.clone()),
        error_backend: settings.error_pages.backend.clone(),
    };
    (references != References::default()).then(|| {
        Box::new(References {
            response_headers_allowed: Arc::clone(&settings.response_headers_allowed),
            ..references
        })
    })
}

/// The rule of the controller's own default backend, which no Ingress asks for.
pub(super) fn controller_default(key: &Arc<BackendKey>) -> Arc<Rule> {
    let origin = ObjectRef {
        kind: "Service",
        namespace: Arc::clone(&key.namespace),
        name: Arc::clone(&key.service),
    };
    Arc::new(Rule {
        matches: PathPattern::prefix("/").into(),
        target: Target::backend(Arc::clone(key)),
        policy: Arc::default(),
        origin: RuleOrigin {
            ingress: origin,
            path: "".into(),
        },
    })
}

struct Reader {
    ingress: ObjectRef,
    settings: Settings,
    /// What all its rules have in common.
    policy: Arc<RoutePolicy>,
    diagnostics: Vec<Diagnostic>,
}

impl Reader {
    fn report(&mut self, field: String, reason: Reason, message: impl Into<String>) {
        let object = self.ingress.clone();
        self.diagnostics.push(Diagnostic {
            object,
            field,
            reason,
            message: message.into(),
        });
    }

    /// The hosts of all rules, sorted, and the rules that can be read.
    fn rules(&mut self, rules: &[IngressRule]) -> (Vec<HostPattern>, Vec<RuleClaim>) {
        let mut hosts = Vec::new();
        let mut claims = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            let field = || format!("spec.rules[{index}].host");
            let Some(host) = self.host(&rule.host, field) else {
                continue;
            };
            for (path_index, path) in rule.paths.iter().enumerate() {
                let field = RuleField::Path {
                    rule: index,
                    path: path_index,
                };
                if let Some(rule) = self.rule(path, field) {
                    claims.push(RuleClaim {
                        host: host.clone(),
                        rule: Arc::new(rule),
                        field,
                    });
                }
            }
            hosts.push(host);
        }
        hosts.sort_unstable();
        hosts.dedup();
        (hosts, claims)
    }

    fn host(&mut self, text: &Arc<str>, field: impl FnOnce() -> String) -> Option<HostPattern> {
        // An address is never the name of a rule: RFC 3986 section 3.2.2 tells the two apart.
        if text.parse::<IpAddr>().is_ok() {
            let message = format!("`{text}` is an IP address, a host name is expected");
            self.report(field(), Reason::InvalidHost, message);
            return None;
        }
        match HostPattern::sharing(text) {
            Ok(host) => Some(host),
            Err(error) => {
                self.report(field(), Reason::InvalidHost, format!("`{text}`: {error}"));
                None
            }
        }
    }

    fn rule(&mut self, path: &IngressPath, field: RuleField) -> Option<Rule> {
        let IngressPath {
            backend,
            path: text,
            path_type,
        } = path;
        let read = if self.is_regex(text, path_type) {
            read_regex(text)
        } else {
            read_path(text, path_type)
        };
        let pattern = match read {
            Ok(pattern) => pattern,
            Err((reason, message)) => {
                let part = if reason == Reason::InvalidPathType {
                    "pathType"
                } else {
                    "path"
                };
                self.report(format!("{field}.{part}"), reason, message);
                return None;
            }
        };
        let target = self.target(backend, field);
        let origin = RuleOrigin {
            ingress: self.ingress.clone(),
            path: Arc::clone(text),
        };
        Some(Rule {
            policy: self.policy_of(&pattern, text),
            matches: pattern.into(),
            target,
            origin,
        })
    }

    /// Whether a path of this Ingress is a regular expression. `Exact` paths are not: where
    /// ingress-nginx takes them for expressions too, that depends on the host.
    fn is_regex(&self, path: &str, path_type: &PathType) -> bool {
        let rewrites = self.settings.rewrite_target.as_deref();
        let asks = self.settings.use_regex || rewrites.is_some_and(|target| target != path);
        asks && *path_type != PathType::Exact
    }

    fn default_backend(&mut self, backend: &IngressBackend) -> Arc<Rule> {
        let target = self.target(backend, RuleField::DefaultBackend);
        let origin = RuleOrigin {
            ingress: self.ingress.clone(),
            path: "".into(),
        };
        Arc::new(Rule {
            matches: PathPattern::prefix("/").into(),
            target,
            policy: Arc::clone(&self.policy),
            origin,
        })
    }

    fn target(&mut self, backend: &IngressBackend, field: RuleField) -> Target {
        if self.settings.is_closed {
            return Target::Unavailable;
        }
        if let Some(redirect) = self.settings.redirect() {
            return Target::Redirect(redirect);
        }
        let IngressBackend { resource, service } = backend;
        let (reason, message) = match (service, resource) {
            (Some(service), None) => match read_port(service) {
                Ok(port) => {
                    return Target::backend(Arc::new(BackendKey {
                        namespace: Arc::clone(&self.ingress.namespace),
                        service: Arc::clone(&service.name),
                        port,
                        policy: self.settings.backend.clone(),
                    }));
                }
                Err(message) => (Reason::InvalidBackend, message),
            },
            (None, Some(resource)) => {
                let ResourceBackend { kind, name } = &**resource;
                let message = format!(
                    "backend is the resource {kind} `{name}`, only Services are supported; \
                     answered with 503"
                );
                (Reason::ResourceBackendUnsupported, message)
            }
            (Some(_), Some(_)) => (
                Reason::InvalidBackend,
                "backend has both `service` and `resource`; answered with 503".to_owned(),
            ),
            (None, None) => (
                Reason::InvalidBackend,
                "backend has no `service`; answered with 503".to_owned(),
            ),
        };
        self.report(field.backend(), reason, message);
        Target::Unavailable
    }

    fn certificate(
        &mut self,
        index: usize,
        section: &IngressTls,
        rule_hosts: &[HostPattern],
        tls_hosts: &mut Vec<HostPattern>,
    ) -> Option<CertificateClaim> {
        let IngressTls { hosts, secret_name } = section;
        let mut patterns = Vec::new();
        for (host_index, host) in hosts.iter().enumerate() {
            let field = || format!("spec.tls[{index}].hosts[{host_index}]");
            patterns.extend(self.host(host, field));
        }
        if hosts.is_empty() {
            patterns.extend_from_slice(rule_hosts);
            if patterns.is_empty() {
                patterns.push(HostPattern::Any);
            }
        }
        if patterns.iter().any(|host| rule_hosts.contains(host)) {
            patterns.extend_from_slice(&self.settings.aliases);
        }
        tls_hosts.extend_from_slice(&patterns);
        let secret = secret_name
            .as_deref()
            .filter(|name| !name.is_empty())?
            .into();
        Some(CertificateClaim {
            hosts: patterns.into(),
            secret,
            index,
        })
    }
}
