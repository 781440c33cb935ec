//! Step 2b: the Secrets, ConfigMaps and Services that annotations name beside backends.
//!
//! Source: ingress-nginx: what is missing or invalid makes the routes of the Ingress answer 503,
//! and objects of other namespaces count as missing.
//!
//! Invariant: routes whose users, authorities or fields are not known are closed.

mod jwks;
mod oidc;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};

use super::claim::{Claims, References};
use super::{name, namespace};
use crate::annotation::basic_auth::BasicAuthSettings;
use crate::annotation::jwt::JwksSource;
use crate::annotation::upstream_tls::UpstreamTlsSettings;
use crate::annotation::{self, response_headers};
use crate::diagnostic::{Diagnostic, Reason};
use crate::ir::{
    BackendKey, BackendPolicy, ClientIdentity, ErrorPages, Filter, HeaderFields, ObjectRef,
    OidcClient, RoutePolicy, Rule, ServicePort, Target, TemplateFields, UpstreamTls, Users,
    WeightedBackend,
};
use crate::object::Ingress;
use crate::snapshot::Snapshot;

/// The claims with what they refer to, in the same order.
pub(super) fn resolve(
    claims: Vec<Arc<Claims>>,
    snapshot: &Snapshot,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<Claims>> {
    let mut resolved = claims;
    for claims in &mut resolved {
        let Some(references) = &claims.references else {
            continue;
        };
        let mut reader = Reader {
            claims,
            snapshot,
            diagnostics: Vec::new(),
        };
        let found = reader.read(references);
        diagnostics.append(&mut reader.diagnostics);
        *claims = Arc::new(found.apply(claims));
    }
    resolved
}

/// The Secrets and ConfigMaps that annotations of an Ingress name, all of its own namespace.
pub(super) fn of(ingress: &Ingress) -> impl Iterator<Item = ObjectRef> {
    let own = &ingress.meta.namespace;
    let named = annotation::referenced(&ingress.annotations);
    named.filter_map(|(kind, value)| {
        let (namespace, name) = split(value, own);
        (*namespace == **own).then(|| ObjectRef {
            kind,
            namespace: Arc::clone(own),
            name: name.into(),
        })
    })
}

/// `namespace/name`, or a name in the namespace of the Ingress.
fn split<'a>(value: &'a str, own: &'a str) -> (&'a str, &'a str) {
    let value = value.trim();
    value.split_once('/').unwrap_or((own, value))
}

/// The contents of referenced objects. `Err` in a field closes the Ingress's routes.
struct Found {
    response_fields: Option<Result<HeaderFields, Closed>>,
    users: Option<Result<Arc<Users>, Closed>>,
    auth_fields: Option<Result<TemplateFields, Closed>>,
    jwks: Option<Result<Arc<str>, Closed>>,
    oidc: Option<Result<Arc<OidcClient>, Closed>>,
    tls: Option<Result<Arc<UpstreamTls>, Closed>>,
    error_backend: Option<Arc<BackendKey>>,
}

/// The referenced object is missing or invalid; a diagnostic tells why.
struct Closed;

struct Reader<'a> {
    claims: &'a Claims,
    snapshot: &'a Snapshot,
    diagnostics: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    fn read(&mut self, references: &References) -> Found {
        let custom_headers = references.custom_headers.as_ref();
        let response_fields = custom_headers.map(|wanted| {
            let fields = self.config_map(wanted).and_then(|(name, data)| {
                response_headers(data, &references.response_headers_allowed)
                    .map_err(|error| format!("ConfigMap `{name}`: {error}"))
            });
            self.closing("custom-headers", Reason::InvalidHeaders, fields)
        });
        let auth_headers = references.auth_headers.as_ref();
        let auth_fields = auth_headers.map(|wanted| {
            let fields = self.config_map(wanted).and_then(|(name, data)| {
                annotation::template_fields(data)
                    .map_err(|error| format!("ConfigMap `{name}`: {error}"))
            });
            self.closing("auth-proxy-set-headers", Reason::InvalidHeaders, fields)
        });
        Found {
            response_fields,
            users: references.users.as_ref().map(|wanted| self.users(wanted)),
            auth_fields,
            jwks: references.jwks.as_ref().map(|wanted| self.jwks(wanted)),
            oidc: references.oidc.as_ref().map(|wanted| self.oidc(wanted)),
            tls: references.tls.as_ref().map(|wanted| self.tls(wanted)),
            error_backend: references
                .error_backend
                .as_ref()
                .and_then(|wanted| self.error_backend(wanted)),
        }
    }

    fn closing<T>(
        &mut self,
        key: &str,
        reason: Reason,
        found: Result<T, String>,
    ) -> Result<T, Closed> {
        found.map_err(|message| {
            self.report(key, reason, format!("{message}; its rules answer 503"));
            Closed
        })
    }

    fn report(&mut self, key: &str, reason: Reason, message: String) {
        self.diagnostics.push(Diagnostic {
            object: self.claims.ingress.clone(),
            field: format!("metadata.annotations[{key}]"),
            reason,
            message,
        });
    }

    fn config_map<'w>(
        &self,
        wanted: &'w str,
    ) -> Result<(&'w str, &'a BTreeMap<String, String>), String> {
        let (wanted_namespace, wanted_name) = self.own("ConfigMap", wanted)?;
        let mut all = self.snapshot.config_maps.iter();
        let found = all.find(|object: &&Arc<ConfigMap>| {
            namespace(&object.metadata) == &*wanted_namespace
                && name(&object.metadata) == wanted_name
        });
        let object = found.ok_or_else(|| format!("ConfigMap `{wanted}` does not exist"))?;
        Ok((wanted, object.data.as_ref().unwrap_or(&EMPTY)))
    }

    fn secret(&self, wanted: &str) -> Result<&'a Secret, (Reason, String)> {
        let own = self.own("Secret", wanted);
        let (wanted_namespace, wanted_name) =
            own.map_err(|message| (Reason::InvalidSecret, message))?;
        let mut all = self.snapshot.secrets.iter();
        let found = all.find(|object: &&Arc<Secret>| {
            namespace(&object.metadata) == &*wanted_namespace
                && name(&object.metadata) == wanted_name
        });
        let missing = || {
            let message = format!("Secret `{wanted}` does not exist");
            (Reason::SecretNotFound, message)
        };
        found.map(|secret| &**secret).ok_or_else(missing)
    }

    /// The namespace and name of an object, which has to be one of the namespace of the Ingress.
    fn own<'w>(&self, kind: &str, wanted: &'w str) -> Result<(Arc<str>, &'w str), String> {
        let own = &self.claims.ingress.namespace;
        let (wanted_namespace, wanted_name) = wanted.split_once('/').unwrap_or((own, wanted));
        if *wanted_namespace == **own {
            Ok((Arc::clone(own), wanted_name))
        } else {
            Err(format!("{kind} `{wanted}` is in another namespace"))
        }
    }

    fn users(&mut self, wanted: &BasicAuthSettings) -> Result<Arc<Users>, Closed> {
        let name = wanted.secret.as_deref().unwrap_or_default();
        let secret = self.secret(name).and_then(|secret| {
            users::read(secret, wanted.layout)
                .map_err(|message| (Reason::InvalidSecret, format!("Secret `{name}` {message}")))
        });
        match secret {
            Ok((users, unusable)) => {
                for user in unusable {
                    let message = format!(
                        "Secret `{name}`: the password hash of user `{user}` is of an unknown \
                         kind; the user is not let in"
                    );
                    self.report("auth-secret", Reason::InvalidSecret, message);
                }
                Ok(Arc::new(users))
            }
            Err((reason, message)) => self.closing("auth-secret", reason, Err(message)),
        }
    }

    fn jwks(&mut self, wanted: &JwksSource) -> Result<Arc<str>, Closed> {
        let (key, found) = match wanted {
            JwksSource::Secret(name) => {
                let found = self.secret(name).and_then(|secret| {
                    jwks::of_secret(secret).map_err(|message| {
                        let message = format!("Secret `{name}` {message}");
                        (Reason::InvalidSecret, message)
                    })
                });
                ("auth-jwt-jwks-secret", found)
            }
            JwksSource::ConfigMap(name) => {
                let found = self.config_map(name).and_then(|(_, data)| {
                    jwks::of_config_map(data)
                        .map_err(|message| format!("ConfigMap `{name}` {message}"))
                });
                let found = found.map_err(|message| (Reason::RestrictionNotHonoured, message));
                ("auth-jwt-jwks-config-map", found)
            }
        };
        found.or_else(|(reason, message)| self.closing(key, reason, Err(message)))
    }

    fn oidc(&mut self, name: &str) -> Result<Arc<OidcClient>, Closed> {
        let found = self.secret(name).and_then(|secret| {
            oidc::client(secret)
                .map_err(|message| (Reason::InvalidSecret, format!("Secret `{name}` {message}")))
        });
        match found {
            Ok(client) => Ok(Arc::new(client)),
            Err((reason, message)) => self.closing("auth-oidc-secret", reason, Err(message)),
        }
    }

    fn tls(&mut self, wanted: &UpstreamTlsSettings) -> Result<Arc<UpstreamTls>, Closed> {
        let name = wanted.secret.as_deref().unwrap_or_default();
        let found = self.secret(name).and_then(|secret| {
            upstream_tls(secret, wanted)
                .map_err(|message| (Reason::InvalidSecret, format!("Secret `{name}` {message}")))
        });
        match found {
            Ok(tls) => Ok(Arc::new(tls)),
            Err((reason, message)) => self.closing("proxy-ssl-secret", reason, Err(message)),
        }
    }

    /// The first port of a Service in the namespace of the Ingress.
    fn error_backend(&mut self, wanted: &Arc<str>) -> Option<Arc<BackendKey>> {
        let own = &self.claims.ingress.namespace;
        let mut services = self.snapshot.services.iter();
        let found = services.find(|one| *one.meta.namespace == **own && *one.meta.name == **wanted);
        let port = found.and_then(|service| service.ports.first());
        let port = port.and_then(|port| u16::try_from(port.port).ok());
        let Some(port) = port.filter(|port| *port > 0) else {
            let message =
                format!("Service `{own}/{wanted}` does not exist or has no port; ignored");
            self.report("default-backend", Reason::ServiceNotFound, message);
            return None;
        };
        Some(Arc::new(BackendKey {
            namespace: Arc::clone(own),
            service: Arc::clone(wanted),
            port: ServicePort::Number(port),
            policy: BackendPolicy::default(),
        }))
    }
}

static EMPTY: BTreeMap<String, String> = BTreeMap::new();

/// Reads the certificates for TLS to endpoints from a Secret.
fn upstream_tls(secret: &Secret, wanted: &UpstreamTlsSettings) -> Result<UpstreamTls, String> {
    let entry = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let value = value.filter(|value| !value.0.is_empty());
        value.map(|value| Arc::<[u8]>::from(&*value.0))
    };
    let identity = entry("tls.crt").zip(entry("tls.key"));
    let identity = identity.map(|(chain, key)| ClientIdentity { chain, key });
    let authorities = entry("ca.crt");
    if identity.is_none() && authorities.is_none() {
        return Err("has neither `tls.crt` and `tls.key` nor `ca.crt`".to_owned());
    }
    if wanted.verifies && authorities.is_none() {
        return Err("has no `ca.crt` to verify endpoints with".to_owned());
    }
    Ok(UpstreamTls {
        identity,
        authorities: authorities.filter(|_| wanted.verifies),
        name: wanted.name.clone(),
        sends_name: wanted.sends_name,
    })
}

impl Found {
    fn apply(&self, claims: &Claims) -> Claims {
        let mut claims = claims.clone();
        let mut policies = HashMap::new();
        for claim in claims.rules.iter_mut().chain(&mut claims.alias_rules) {
            claim.rule = self.rule(&claim.rule, &mut policies);
        }
        if let Some(default) = &mut claims.default {
            *default = self.rule(default, &mut policies);
        }
        claims
    }

    fn rule(
        &self,
        rule: &Arc<Rule>,
        policies: &mut HashMap<*const RoutePolicy, Option<Arc<RoutePolicy>>>,
    ) -> Arc<Rule> {
        // Rules that share a policy go on sharing one.
        let policy = policies
            .entry(Arc::as_ptr(&rule.policy))
            .or_insert_with(|| self.policy(&rule.policy).ok().map(Arc::new));
        let target = self.target(&rule.target);
        let (policy, target) = match (policy, target) {
            (Some(policy), Ok(target)) => (Arc::clone(policy), target),
            // No filter may ask clients for something that would not let them in.
            (None, _) | (_, Err(Closed)) => {
                let policy = RoutePolicy {
                    filters: Box::default(),
                    ..(*rule.policy).clone()
                };
                (Arc::new(policy), Target::Unavailable)
            }
        };
        Arc::new(Rule {
            target,
            policy,
            ..(**rule).clone()
        })
    }

    fn policy(&self, policy: &RoutePolicy) -> Result<RoutePolicy, Closed> {
        let mut filters = policy.filters.to_vec();
        if let Some(users) = &self.users {
            let users = users.as_ref().map_err(|_| Closed)?;
            set_users(&mut filters, users);
        }
        if let Some(set) = &self.jwks {
            let set = set.as_ref().map_err(|_| Closed)?;
            jwks::set(&mut filters, set);
        }
        if let Some(client) = &self.oidc {
            let client = client.as_ref().map_err(|_| Closed)?;
            oidc::set(&mut filters, client);
        }
        if let Some(fields) = &self.auth_fields {
            let fields = fields.as_ref().map_err(|_| Closed)?;
            set_auth_fields(&mut filters, fields);
        }
        if let Some(fields) = &self.response_fields {
            let fields = fields.as_ref().map_err(|_| Closed)?;
            filters.push(Filter::ResponseHeaders(Arc::clone(fields)));
        }
        let error_pages = policy.error_pages.as_deref();
        let error_pages = match (&self.error_backend, error_pages) {
            (Some(backend), pages) => Some(Arc::new(ErrorPages {
                backend: Some(Arc::clone(backend)),
                replaces_unavailable: true,
                ..pages.cloned().unwrap_or_default()
            })),
            (None, _) => policy.error_pages.clone(),
        };
        Ok(RoutePolicy {
            filters: filters.into(),
            error_pages,
            ..policy.clone()
        })
    }

    fn target(&self, target: &Target) -> Result<Target, Closed> {
        let (Some(tls), Target::Backends(backends)) = (&self.tls, target) else {
            return Ok(target.clone());
        };
        let tls = tls.as_ref().map_err(|_| Closed)?;
        let backends = backends.iter().map(|backend| {
            let mut key = (*backend.key).clone();
            let name = || format!("{}.{}.svc", key.service, key.namespace).into();
            key.policy.tls = Some(Arc::new(UpstreamTls {
                name: Some(tls.name.clone().unwrap_or_else(name)),
                ..(**tls).clone()
            }));
            WeightedBackend {
                key: Arc::new(key),
                ..backend.clone()
            }
        });
        Ok(Target::Backends(backends.collect()))
    }
}

fn set_users(filters: &mut [Filter], users: &Arc<Users>) {
    for filter in filters {
        if let Filter::Authenticate(asked) = filter
            && let Some(basic) = &asked.basic
        {
            let mut asked = (**asked).clone();
            let mut basic = basic.clone();
            basic.users = Arc::clone(users);
            asked.basic = Some(basic);
            *filter = Filter::Authenticate(Arc::new(asked));
        }
    }
}

fn set_auth_fields(filters: &mut [Filter], fields: &TemplateFields) {
    for filter in filters {
        if let Filter::Authenticate(asked) = filter
            && let Some(external) = &asked.external
        {
            let mut asked = (**asked).clone();
            let mut external = (**external).clone();
            external.request_headers = Arc::clone(fields);
            asked.external = Some(Arc::new(external));
            *filter = Filter::Authenticate(Arc::new(asked));
        }
    }
}
