//! Step 2: what one Ingress asks for.
//!
//! Architecture invariant: a function of one Ingress object and of what its class says, so that
//! an incremental translator can keep the result for as long as neither changes.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::annotation::client_auth::ClientAuthSettings;
use crate::annotation::{self, Settings};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{
    BackendKey, HostPattern, ObjectRef, PathPattern, Rule, RuleOrigin, ServicePort, Target,
};
use crate::object::{
    Ingress, IngressBackend, IngressPath, IngressTls, PathType, ResourceBackend, ServiceBackend,
};

/// Everything that one Ingress asks for.
pub(super) struct Claims {
    pub(super) ingress: ObjectRef,
    /// The hosts of its rules, also of rules without any usable path.
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) rules: Box<[RuleClaim]>,
    /// `spec.defaultBackend`.
    pub(super) default: Option<Arc<Rule>>,
    pub(super) scope: DefaultScope,
    pub(super) certificates: Box<[CertificateClaim]>,
    /// That clients have to show certificates.
    pub(super) client_auth: Option<Box<ClientAuthClaim>>,
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
pub(super) struct RuleClaim {
    pub(super) host: HostPattern,
    pub(super) rule: Arc<Rule>,
    pub(super) field: RuleField,
}

/// One TLS section that names a Secret.
pub(super) struct CertificateClaim {
    pub(super) hosts: Box<[HostPattern]>,
    pub(super) secret: Arc<str>,
    /// Its place in `spec.tls`.
    pub(super) index: usize,
}

/// An annotation that asks for client certificates.
pub(super) struct ClientAuthClaim {
    pub(super) settings: ClientAuthSettings,
    /// The annotation that names the Secret.
    pub(super) field: String,
}

/// Where in an Ingress a rule stands; written out only when there is something to say about it.
#[derive(Clone, Copy)]
pub(super) enum RuleField {
    Path { rule: usize, path: usize },
    DefaultBackend,
}

impl RuleField {
    pub(super) fn backend(self) -> String {
        match self {
            Self::Path { .. } => format!("{self}.backend"),
            Self::DefaultBackend => self.to_string(),
        }
    }
}

impl fmt::Display for RuleField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path { rule, path } => write!(f, "spec.rules[{rule}].http.paths[{path}]"),
            Self::DefaultBackend => f.write_str("spec.defaultBackend"),
        }
    }
}

/// Reads one Ingress, of a class with these settings.
pub(super) fn read(ingress: &Ingress, class: &Settings) -> Claims {
    let rules = &ingress.rules;
    let scope = if rules.is_empty() {
        DefaultScope::Everything
    } else {
        DefaultScope::Hosts
    };
    let mut reader = Reader {
        ingress: ingress.meta.reference("Ingress"),
        settings: class.clone(),
        diagnostics: Vec::new(),
    };
    reader.annotations(ingress);

    let mut hosts = Vec::new();
    let mut claims = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let field = || format!("spec.rules[{index}].host");
        let Some(host) = reader.host(&rule.host, field) else {
            continue;
        };
        for (path_index, path) in rule.paths.iter().enumerate() {
            let field = RuleField::Path {
                rule: index,
                path: path_index,
            };
            if let Some(rule) = reader.rule(path, field) {
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

    let default = ingress.default_backend.as_deref();
    let default = default.map(|backend| reader.default_backend(backend));
    let certificates = (ingress.tls.iter().enumerate())
        .filter_map(|(index, section)| reader.certificate(index, section, &hosts))
        .collect();
    let key = annotation::client_auth::secret_key(&ingress.annotations);
    let client_auth = key.map(|key| {
        Box::new(ClientAuthClaim {
            settings: reader.settings.client_auth.clone(),
            field: format!("metadata.annotations[{key}]"),
        })
    });
    let Reader {
        ingress,
        diagnostics,
        ..
    } = reader;
    Claims {
        ingress,
        hosts: hosts.into(),
        rules: claims.into(),
        default,
        scope,
        certificates,
        client_auth,
        diagnostics: diagnostics.into(),
    }
}

/// The rule of the controller's own default backend, which no Ingress asks for.
pub(super) fn controller_default(key: &Arc<BackendKey>) -> Arc<Rule> {
    let origin = ObjectRef {
        kind: "Service",
        namespace: Arc::clone(&key.namespace),
        name: Arc::clone(&key.service),
    };
    Arc::new(Rule {
        path: PathPattern::prefix("/"),
        target: Target::Backend(Arc::clone(key)),
        body_bytes_max: None,
        origin: RuleOrigin {
            ingress: origin,
            path: "".into(),
        },
    })
}

struct Reader {
    ingress: ObjectRef,
    settings: Settings,
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

    fn annotations(&mut self, ingress: &Ingress) {
        let (settings, mistakes) =
            annotation::of_ingress(&ingress.annotations, self.settings.clone());
        self.settings = settings;
        for mistake in mistakes {
            let field = format!("metadata.annotations[{}]", mistake.key);
            let reason = if mistake.is_unknown_key {
                Reason::UnknownAnnotation
            } else {
                Reason::InvalidAnnotation
            };
            self.report(field, reason, mistake.message);
        }
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
        let pattern = match read_path(text, path_type) {
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
            path: pattern,
            target,
            body_bytes_max: self.settings.body_bytes_max,
            origin,
        })
    }

    fn default_backend(&mut self, backend: &IngressBackend) -> Arc<Rule> {
        let target = self.target(backend, RuleField::DefaultBackend);
        let origin = RuleOrigin {
            ingress: self.ingress.clone(),
            path: "".into(),
        };
        Arc::new(Rule {
            path: PathPattern::prefix("/"),
            target,
            body_bytes_max: self.settings.body_bytes_max,
            origin,
        })
    }

    fn target(&mut self, backend: &IngressBackend, field: RuleField) -> Target {
        let IngressBackend { resource, service } = backend;
        let (reason, message) = match (service, resource) {
            (Some(service), None) => match read_port(service) {
                Ok(port) => {
                    return Target::Backend(Arc::new(BackendKey {
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

fn read_path(text: &Arc<str>, path_type: &PathType) -> Result<PathPattern, (Reason, String)> {
    let invalid = |message: String| Err((Reason::InvalidPath, message));
    let strict = match path_type {
        PathType::Exact | PathType::Prefix => true,
        PathType::ImplementationSpecific => false,
        PathType::Other(other) => {
            let expected = "`Exact`, `Prefix` or `ImplementationSpecific` is expected";
            return Err((Reason::InvalidPathType, format!("`{other}`: {expected}")));
        }
    };
    if text.is_empty() && !strict {
        return Ok(PathPattern::prefix("/"));
    }
    if !text.starts_with('/') {
        return invalid(format!("`{text}` does not start with `/`"));
    }
    // What the API server refuses as well: no normalised request path has any of these.
    let never = ["//", "/./", "/../", "%2f", "%2F"]
        .into_iter()
        .find(|part| text.contains(part));
    let never = never.or_else(|| ["/..", "/."].into_iter().find(|end| text.ends_with(end)));
    if let Some(never) = never.filter(|_| strict) {
        return invalid(format!(
            "`{text}` contains `{never}`, which no normalised path has"
        ));
    }
    Ok(if *path_type == PathType::Exact {
        PathPattern::Exact(Arc::clone(text))
    } else {
        PathPattern::prefix_sharing(text)
    })
}

fn read_port(service: &ServiceBackend) -> Result<ServicePort, String> {
    let ServiceBackend {
        name: service_name,
        port_name,
        port_number,
    } = service;
    if service_name.is_empty() {
        return Err("backend has an empty `service.name`; answered with 503".to_owned());
    }
    let name = port_name.as_deref().filter(|name| !name.is_empty());
    match (name, port_number.filter(|number| *number != 0)) {
        (Some(name), None) => Ok(ServicePort::Name(name.into())),
        (None, Some(number)) => u16::try_from(number)
            .map(ServicePort::Number)
            .map_err(|_| format!("port `{number}` is not in 1 to 65535; answered with 503")),
        (Some(_), Some(_)) => {
            Err("port has both `name` and `number`; answered with 503".to_owned())
        }
        (None, None) => Err("port has neither `name` nor `number`; answered with 503".to_owned()),
    }
}
