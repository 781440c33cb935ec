//! The routes of all hosts, in the order in which they are tried.

use ingress_core::ir::{Config, PathPattern, Rule, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Object;

/// One route of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Route {
    /// A host name, `*.` and a domain, or `*` for requests to any other host.
    pub host: String,
    /// The path as its object spells it; empty for a default backend.
    pub path: String,
    /// How the path is compared.
    pub path_type: PathType,
    /// The object that asks for the route.
    pub object: Object,
    /// Whether a TLS section names the host.
    pub tls: bool,
    /// Where requests go.
    pub target: RouteTarget,
}

/// How a path is compared with that of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PathType {
    /// They are equal.
    Exact,
    /// The request's begins with the same elements.
    Prefix,
    /// The request's matches a regular expression.
    Regex,
    /// Requests whose path no route matches.
    Default,
}

/// Where the requests of a route go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum RouteTarget {
    /// To endpoints of these backends.
    Backends {
        /// The backends and their shares.
        backends: Vec<BackendShare>,
    },
    /// To another URL.
    Redirect {
        /// The value of Location.
        location: String,
        /// The status.
        status: u16,
    },
    /// Nowhere: the proxy answers with this status.
    Respond {
        /// The status.
        status: u16,
    },
    /// Nowhere: the object asks for something that cannot be served, and the proxy answers with 503.
    Unavailable,
}

/// A backend of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BackendShare {
    /// `namespace/service:port`.
    pub backend: String,
    /// Its share among the weights of all.
    pub weight: u32,
    /// Whether it is a canary.
    pub canary: bool,
    /// Endpoints that are ready.
    pub endpoints: usize,
    /// Endpoints that terminate and still serve their sessions.
    pub draining: usize,
}

/// Lists the routes of a configuration, by host and then in order of precedence.
pub fn routes(config: &Config) -> Vec<Route> {
    let of_hosts = config.hosts.iter().flat_map(|(host, rules)| {
        let default = rules.default.iter().map(|rule| (rule, true));
        let all = rules.rules.iter().map(|rule| (rule, false)).chain(default);
        all.map(move |(rule, is_default)| {
            route(config, host.to_string(), rule, is_default, rules.has_tls)
        })
    });
    let of_any = config.default_backend.iter();
    let of_any = of_any.map(|rule| route(config, "*".to_owned(), rule, true, false));
    of_hosts.chain(of_any).collect()
}

fn route(config: &Config, host: String, rule: &Rule, is_default: bool, tls: bool) -> Route {
    let path_type = match rule.matches.path {
        _ if is_default => PathType::Default,
        PathPattern::Exact(_) => PathType::Exact,
        PathPattern::Prefix(_) => PathType::Prefix,
        PathPattern::Regex(_) => PathType::Regex,
    };
    Route {
        host,
        path: rule.origin.path.to_string(),
        path_type,
        object: (&rule.origin.ingress).into(),
        tls,
        target: target(config, &rule.target),
    }
}

fn target(config: &Config, target: &Target) -> RouteTarget {
    match target {
        Target::Backends(backends) => {
            let share = |backend: &ingress_core::ir::WeightedBackend| {
                let known = config.backends.get(&backend.key);
                BackendShare {
                    backend: backend.key.to_string(),
                    weight: backend.weight,
                    canary: backend.canary.is_some(),
                    endpoints: known.map_or(0, |known| known.endpoints.len()),
                    draining: known.map_or(0, |known| known.draining.len()),
                }
            };
            RouteTarget::Backends {
                backends: backends.iter().map(share).collect(),
            }
        }
        Target::Redirect(redirect) => RouteTarget::Redirect {
            location: redirect.location.to_string(),
            status: redirect.code,
        },
        Target::Respond(status) => RouteTarget::Respond { status: *status },
        Target::Unavailable => RouteTarget::Unavailable,
    }
}
