//! What annotations of an Ingress, and the parameters of its class, say.
//!
//! One registry for both: a setting has a key, which is an annotation under our own prefix or
//! ingress-nginx's, and a key of the ConfigMap that an IngressClass names as its parameters. The
//! annotation counts before the parameter, our own prefix before ingress-nginx's.
//!
//! An invalid value is reported and counts as if it were not there, and so is a key under one of the
//! two prefixes that is not known. A key that restricts access is the exception: whatever is wrong
//! with it, the routes of its Ingress answer 503, unless the operator accepts that it is ignored.

mod access;
mod balance;
pub(crate) mod basic_auth;
mod block;
mod canary;
mod claims;
pub mod client_auth;
mod compression;
mod cors;
pub(crate) mod error_pages;
pub(crate) mod external_auth;
mod headers;
mod health_check;
mod host;
pub(crate) mod jwt;
mod mirror;
pub(crate) mod oidc;
mod process;
mod rate_limit;
mod redirect;
mod registry;
mod response_rewrite;
mod restriction;
mod retry;
mod rewrite;
mod size;
mod snippet;
mod template;
#[cfg(test)]
mod tests;
mod timeout;
mod tls_redirect;
pub(crate) mod upstream_tls;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ir::{
    AccessList, BackendPolicy, Block, Canary, Cors, Filter, HeaderFields, HostPattern,
    ProcessSettings, RateLimit, Redirect, RequestBuffering, ResponseRewrite, Retries, RoutePolicy,
    RouteTimeouts, TemplateFields, UpstreamProtocol,
};
use client_auth::ClientAuthSettings;
pub use headers::{HeadersError, response_headers};
pub(crate) use headers::{header_fields, referenced, template_fields};
pub use registry::{Support, known_keys, reference, support};
pub use restriction::restricts_access;
pub(crate) use rewrite::rewrite_template;
pub use size::bytes as read_size;

/// Every setting that one Ingress, or one class, makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an annotation of its own"
)]
pub struct Settings {
    /// What makes a backend of its own.
    pub backend: BackendPolicy,
    /// What clients have to show.
    pub client_auth: ClientAuthSettings,
    /// Bytes of a request body; 0: any number. `None`: as the operator says.
    pub body_bytes_max: Option<u64>,
    /// When an endpoint is chosen for a request with a body.
    pub request_buffering: RequestBuffering,
    /// How long endpoints are waited for.
    pub timeouts: RouteTimeouts,
    /// When requests are retried on another endpoint.
    pub retries: Retries,
    /// Networks of clients.
    pub access: AccessList,
    /// Whether paths are regular expressions.
    pub use_regex: bool,
    /// The template of new paths.
    pub rewrite_target: Option<Arc<str>>,
    /// The value of X-Forwarded-Prefix, beside a new path.
    pub forwarded_prefix: Option<Arc<str>>,
    /// Where requests for the root are sent.
    pub app_root: Option<Arc<str>>,
    /// The host that endpoints are told.
    pub upstream_vhost: Option<Arc<str>>,
    /// Whether TLS connections are passed through.
    pub passthrough: bool,
    /// The ConfigMap of fields for responses, as `namespace/name`.
    pub custom_headers: Option<Arc<str>>,
    /// Fields that such a ConfigMap may have, in lower case: the class says which.
    pub response_headers_allowed: Arc<[Box<str>]>,
    /// Whether something restricts access that cannot be honoured: every request is answered with
    /// 503.
    pub is_closed: bool,
    /// Whether requests are left out of the access log.
    pub is_unlogged: bool,
    /// Hosts beside those of the rules.
    pub aliases: Arc<[HostPattern]>,
    /// Whether the host with `www.`, or without it, is redirected to this one.
    pub redirects_www: bool,
    /// Fields that responses do not have, in lower case.
    pub hidden_headers: Arc<[Box<str>]>,
    /// The ConfigMap of fields for all responses, as `namespace/name`.
    pub add_headers: Option<Arc<str>>,
    /// The fields of that ConfigMap.
    pub response_fields: HeaderFields,
    /// The ConfigMap of fields for all requests, as `namespace/name`.
    pub set_headers: Option<Arc<str>>,
    /// The fields of that ConfigMap.
    pub request_fields: TemplateFields,
    pub(crate) basic_auth: basic_auth::BasicAuthSettings,
    pub(crate) external_auth: external_auth::ExternalAuthSettings,
    /// What the operator says about the process.
    pub(crate) process: Arc<ProcessSettings>,
    /// The ACME issuer of certificates.
    pub(crate) acme_issuer: Option<Arc<str>>,
    pub(crate) jwt: jwt::JwtSettings,
    pub(crate) oidc: oidc::OidcSettings,
    pub(crate) error_pages: error_pages::ErrorPageSettings,
    pub(crate) upstream_tls: upstream_tls::UpstreamTlsSettings,
    block: Block,
    canary: canary::CanarySettings,
    compression: compression::CompressionSettings,
    cors: cors::CorsSettings,
    health_check: health_check::HealthCheckSettings,
    mirror: mirror::MirrorSettings,
    rate_limit: rate_limit::RateLimitSettings,
    response_rewrite: response_rewrite::ResponseRewriteSettings,
    snippets: snippet::SnippetSettings,
    tls_redirect: tls_redirect::TlsRedirectSettings,
    redirect: redirect::RedirectSettings,
    session: balance::Session,
    subset: balance::Subset,
}

impl Settings {
    /// Those of an operator whose clients reach HTTPS at this port.
    pub fn with_https_port(port: u16) -> Self {
        let mut settings = Self::default();
        settings.tls_redirect.https_port = port;
        settings
    }

    /// Puts together what several keys say about a backend.
    fn finish(&mut self) {
        balance::finish(self);
        self.backend.health_check = self.health_check.check();
    }

    /// Where all requests are redirected, if they are.
    pub fn redirect(&self) -> Option<Arc<Redirect>> {
        self.redirect.redirect()
    }

    /// Which requests its backends get, if the Ingress is a canary.
    pub fn canary(&self) -> Option<Arc<Canary>> {
        self.canary.canary()
    }

    /// Clients whose requests are refused.
    pub fn block(&self) -> Option<Arc<Block>> {
        block::block(self)
    }

    /// Which other origins browsers may send requests from.
    pub fn cors(&self) -> Option<Arc<Cors>> {
        self.cors.cors()
    }

    /// The bounds for each client of an Ingress, by its namespace and name.
    pub fn rate_limit(&self, ingress: &str) -> Option<Arc<RateLimit>> {
        self.rate_limit.limit(ingress)
    }

    /// The filters made from the snippets that the class allows.
    pub fn snippets(&self) -> &[Filter] {
        self.snippets.filters()
    }

    /// The replacements in `Set-Cookie`, `Location` and `Refresh` of responses.
    pub fn response_rewrite(&self) -> Option<Arc<ResponseRewrite>> {
        self.response_rewrite.rewrite()
    }

    /// Status of redirects to another scheme or host.
    pub fn redirect_code(&self) -> u16 {
        self.tls_redirect.redirect().code
    }

    /// The policy of routes, without the filters that depend on a route or on other objects.
    pub fn policy(&self) -> RoutePolicy {
        RoutePolicy {
            filters: Box::default(),
            timeouts: self.timeouts,
            retries: self.retries,
            body_bytes_max: self.body_bytes_max,
            request_buffering: self.request_buffering,
            tls_redirect: self.tls_redirect.redirect(),
            hsts: self.tls_redirect.hsts(),
            error_pages: None,
            mirror: self.mirror.mirror(),
            bandwidth: self.rate_limit.bandwidth(),
            compression: self.compression.compression(),
            substitution: self.snippets.substitution(),
            is_unlogged: self.is_unlogged,
        }
    }
}

/// Something that is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The key as the object spells it.
    pub key: String,
    /// What was found and what is expected.
    pub message: String,
    /// What kind it is.
    pub kind: MistakeKind,
}

/// What is wrong with a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MistakeKind {
    /// Its value is invalid; it is ignored.
    InvalidValue,
    /// It is not known; it is ignored.
    UnknownKey,
    /// ingress-nginx has it and this controller does not; it is ignored.
    Unsupported,
    /// It restricts access and cannot be honoured; the routes are closed.
    Restriction,
}

/// Whether an annotation of an Ingress can say anything to this controller.
pub fn has_a_say(key: &str) -> bool {
    key == CLASS_ANNOTATION || PREFIXES.iter().any(|prefix| key.starts_with(prefix))
}

/// Reads the annotations of an Ingress on top of what its class says. Keys that the operator
/// accepts as ignored, without their prefixes, are left out.
///
/// Annotations under other prefixes are left alone: they are somebody else's.
pub fn of_ingress(
    annotations: &BTreeMap<String, String>,
    class: Settings,
    ignored: &BTreeSet<String>,
) -> (Settings, Vec<Mistake>) {
    let mut settings = class;
    let mut mistakes = Vec::new();
    if annotations.is_empty() {
        return (settings, mistakes);
    }
    let given = by_name(annotations);
    for row in registry::readable() {
        let first = given.partition_point(|one| one.name < row.key);
        let all = given[first..].iter().take_while(|one| one.name == row.key);
        if !row.scope.is_of_ingresses() || ignored.contains(row.key) {
            continue;
        }
        // The first that is usable counts.
        for Given { key, value, .. } in all {
            match (row.read)(value, &mut settings) {
                Ok(()) => break,
                Err(message) => {
                    let key = (*key).to_owned();
                    mistakes.push(invalid(key, row.key, message, &mut settings));
                }
            }
        }
    }
    settings.finish();
    for (key, value) in annotations {
        let name = PREFIXES.iter().find_map(|prefix| key.strip_prefix(prefix));
        if let Some(name) = name.filter(|name| !ignored.contains(*name)) {
            mistakes.extend(unread(key, name, value, &mut settings));
        }
    }
    (settings, mistakes)
}

/// An annotation under one of the prefixes.
struct Given<'a> {
    /// Its key without the prefix.
    name: &'a str,
    /// The place of its prefix: ours counts first.
    rank: usize,
    key: &'a str,
    value: &'a str,
}

/// The annotations under the prefixes, by name: an Ingress has few, and the registry has many keys.
fn by_name(annotations: &BTreeMap<String, String>) -> Vec<Given<'_>> {
    let given = annotations.iter().filter_map(|(key, value)| {
        let mut prefixes = PREFIXES.iter().enumerate();
        let (rank, name) =
            prefixes.find_map(|(rank, prefix)| Some((rank, key.strip_prefix(prefix)?)))?;
        Some(Given {
            name,
            rank,
            key,
            value,
        })
    });
    let mut given: Vec<_> = given.collect();
    given.sort_unstable_by_key(|one| (one.name, one.rank));
    given
}

/// An invalid value of a key that is read.
fn invalid(key: String, name: &str, message: String, settings: &mut Settings) -> Mistake {
    // A mistake about client certificates closes the host by itself.
    if !restricts_access(name) || name.starts_with("auth-tls-") {
        let kind = MistakeKind::InvalidValue;
        return Mistake { key, message, kind };
    }
    settings.is_closed = true;
    let message = message.trim_end_matches("; ignored");
    Mistake {
        key,
        message: format!("{message}; the key restricts access, so its rules answer 503"),
        kind: MistakeKind::Restriction,
    }
}

/// What is wrong with a key that nothing reads, if anything is.
fn unread(key: &str, name: &str, value: &str, settings: &mut Settings) -> Option<Mistake> {
    let support = support(name);
    let (kind, message) = match support {
        Support::Supported | Support::Harmless => return None,
        Support::Unsupported => (MistakeKind::Unsupported, "is not supported"),
        Support::Unknown => (MistakeKind::UnknownKey, "is not a known annotation"),
    };
    let key = key.to_owned();
    if !restricts_access(name) {
        let message = format!("{message}; ignored");
        return Some(Mistake { key, message, kind });
    }
    if support == Support::Unsupported && restriction::is_off(name, value) {
        return None;
    }
    settings.is_closed = true;
    Some(Mistake {
        key,
        message: format!("{message} and restricts access; its rules answer 503"),
        kind: MistakeKind::Restriction,
    })
}

/// Reads the configuration of the controller, the `data` of the ConfigMap that `--configmap` names.
pub fn of_controller(
    none: Settings,
    parameters: &BTreeMap<String, String>,
    ignored: &BTreeSet<String>,
) -> (Settings, Vec<Mistake>) {
    of_parameters(none, parameters, ignored, true)
}

/// Reads the parameters of a class, the `data` of its ConfigMap, on top of what holds for all classes.
pub fn of_class(
    common: Settings,
    parameters: &BTreeMap<String, String>,
    ignored: &BTreeSet<String>,
) -> (Settings, Vec<Mistake>) {
    of_parameters(common, parameters, ignored, false)
}

fn of_parameters(
    common: Settings,
    parameters: &BTreeMap<String, String>,
    ignored: &BTreeSet<String>,
    is_controller: bool,
) -> (Settings, Vec<Mistake>) {
    let mut settings = common;
    let mut mistakes = Vec::new();
    for (key, value) in parameters {
        if ignored.contains(key) {
            continue;
        }
        let known = registry::readable().find(|row| row.key == key);
        let is_elsewhere = known.is_some_and(|row| row.scope == registry::Scope::Controller);
        let known = known.filter(|row| row.scope.is_of_parameters(is_controller));
        let restricts = restriction::parameter_restricts_access(key);
        if restricts && restriction::is_off(key, value) {
            continue;
        }
        let (kind, message) = match known.map(|row| (row.read)(value, &mut settings)) {
            Some(Ok(())) => continue,
            Some(Err(message)) => (MistakeKind::InvalidValue, message),
            None if is_elsewhere && !is_controller => (
                MistakeKind::Unsupported,
                "is read from the ConfigMap that `--configmap` names only; ignored".to_owned(),
            ),
            None => match registry::process_key(key) {
                Some(registry::ProcessKey::Harmless) => continue,
                Some(registry::ProcessKey::Flag(flag)) => (
                    MistakeKind::Unsupported,
                    format!(
                        "is read at the start only, from the flag `{flag}`; set it and restart"
                    ),
                ),
                None => {
                    let message = "is not a known parameter; ignored".to_owned();
                    (MistakeKind::UnknownKey, message)
                }
            },
        };
        if !restricts {
            mistakes.push(Mistake {
                key: key.clone(),
                message,
                kind,
            });
            continue;
        }
        settings.is_closed = true;
        let message = message.trim_end_matches("; ignored");
        mistakes.push(Mistake {
            key: key.clone(),
            message: format!("{message} and restricts access; all rules of the class answer 503"),
            kind: MistakeKind::Restriction,
        });
    }
    settings.finish();
    (settings, mistakes)
}

/// Source: ingress-nginx, annotation `enable-access-log` and ConfigMap key `disable-access-log`.
fn access_log(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.is_unlogged = !boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `disable-access-log`.
fn no_access_log(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.is_unlogged = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `service-upstream`.
fn service_upstream(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.backend.by_service_address = boolean(value)?;
    Ok(())
}

/// Reads a boolean as Go's `strconv.ParseBool` does, which ingress-nginx uses.
fn boolean(value: &str) -> Result<bool, String> {
    match value.trim() {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        _ => Err(format!("`{value}` is not one of true, false; ignored")),
    }
}

/// Source: ingress-nginx, annotation `ssl-passthrough`.
fn ssl_passthrough(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.passthrough = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `backend-protocol`.
fn backend_protocol(value: &str, settings: &mut Settings) -> Result<(), String> {
    let protocol = match value.trim().to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" => UpstreamProtocol::Http1,
        "HTTPS" => UpstreamProtocol::Https,
        "GRPC" => UpstreamProtocol::Http2,
        "GRPCS" => UpstreamProtocol::Http2Tls,
        _ => {
            return Err(format!(
                "`{value}` is not one of HTTP, AUTO_HTTP, HTTPS, GRPC, GRPCS; ignored"
            ));
        }
    };
    settings.backend.protocol = Some(protocol);
    Ok(())
}

/// Names the class of an Ingress, as before there was `spec.ingressClassName`.
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";
const PREFIXES: [&str; 2] = ["sluice.dev/", "nginx.ingress.kubernetes.io/"];
