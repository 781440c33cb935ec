//! The rows of annotations that restrict access.

use super::Scope::{Both, Class, Ingress};
use super::{Row, row};
use crate::annotation::{basic_auth, external_auth};

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "auth-type",
        Ingress,
        [
            "`basic`",
            "none",
            "Asks clients for a user and a password (RFC 7617). `digest` is not supported.",
        ],
        basic_auth::auth_type,
    ),
    row(
        "auth-secret",
        Ingress,
        [
            "`name` or `namespace/name`",
            "none",
            "Secret in the namespace of the Ingress with users and hashes of their passwords: bcrypt, apr1, MD5, SHA-1, SHA-256 and SHA-512 crypt.",
        ],
        basic_auth::secret,
    ),
    row(
        "auth-secret-type",
        Ingress,
        [
            "`auth-file`, `auth-map`",
            "`auth-file`",
            "Whether the key `auth` of the Secret is an htpasswd file, or each key is a user.",
        ],
        basic_auth::secret_type,
    ),
    row(
        "auth-realm",
        Ingress,
        ["text", "empty", "The realm that browsers show."],
        basic_auth::realm,
    ),
    row(
        "satisfy",
        Both,
        [
            "`all`, `any`",
            "`all`",
            "Whether source ranges, passwords and the service of `auth-url` all have to agree, or one of them.",
        ],
        basic_auth::satisfy,
    ),
    row(
        "auth-url",
        Ingress,
        [
            "URL with variables",
            "none",
            "Service that decides: 2xx lets the request pass, 401 and 403 are returned, everything else is 500.",
        ],
        external_auth::url,
    ),
    row(
        "auth-method",
        Ingress,
        ["method", "`GET`", "Method that the service is asked with."],
        external_auth::method,
    ),
    row(
        "auth-signin",
        Ingress,
        [
            "URL with variables",
            "none",
            "Clients that the service answers with 401 are redirected here (302).",
        ],
        external_auth::signin,
    ),
    row(
        "auth-signin-redirect-param",
        Ingress,
        [
            "name",
            "`rd`",
            "Parameter of `auth-signin` that tells where to return.",
        ],
        external_auth::redirect_parameter,
    ),
    row(
        "auth-response-headers",
        Ingress,
        [
            "list of names",
            "none",
            "Fields of the answer of the service that the endpoint gets in place of those of the client.",
        ],
        external_auth::response_headers,
    ),
    row(
        "auth-proxy-set-headers",
        Ingress,
        [
            "`namespace/name`",
            "none",
            "ConfigMap in the namespace of the Ingress with fields that the service gets.",
        ],
        external_auth::proxy_set_headers,
    ),
    row(
        "auth-request-redirect",
        Ingress,
        [
            "URL with variables",
            "`$request_uri`",
            "Value of `X-Auth-Request-Redirect` for the service.",
        ],
        external_auth::request_redirect,
    ),
    row(
        "auth-cache-key",
        Ingress,
        [
            "text with variables",
            "none",
            "Requests with the same text share an answer of the service.",
        ],
        external_auth::cache_key,
    ),
    row(
        "auth-cache-duration",
        Ingress,
        [
            "statuses and times",
            "`200 202 401 5m`",
            "How long answers are kept, where there is a key.",
        ],
        external_auth::cache_duration,
    ),
    row(
        "auth-always-set-cookie",
        Ingress,
        [
            "boolean",
            "`false`",
            "Sets cookies of the service whatever the status of the response is.",
        ],
        external_auth::always_set_cookie,
    ),
    row(
        "auth-keepalive",
        Ingress,
        [
            "number",
            "none",
            "Without effect: connections to the service are always kept.",
        ],
        external_auth::without_effect,
    ),
    row(
        "auth-keepalive-share-vars",
        Ingress,
        ["boolean", "none", "Without effect."],
        external_auth::without_effect,
    ),
    row(
        "auth-keepalive-requests",
        Ingress,
        ["number", "none", "Without effect."],
        external_auth::without_effect,
    ),
    row(
        "auth-keepalive-timeout",
        Ingress,
        ["seconds", "none", "Without effect."],
        external_auth::without_effect,
    ),
    row(
        "enable-global-auth",
        Ingress,
        [
            "boolean",
            "`true`",
            "Whether the service of `global-auth-url` is asked.",
        ],
        external_auth::enable_global,
    ),
    row(
        "global-auth-url",
        Class,
        [
            "URL with variables",
            "none",
            "`auth-url` of all Ingresses that have none of their own.",
        ],
        external_auth::global_url,
    ),
    row(
        "global-auth-method",
        Class,
        ["method", "`GET`", "Its `auth-method`."],
        external_auth::global_method,
    ),
    row(
        "global-auth-signin",
        Class,
        ["URL with variables", "none", "Its `auth-signin`."],
        external_auth::global_signin,
    ),
    row(
        "global-auth-signin-redirect-param",
        Class,
        ["name", "`rd`", "Its `auth-signin-redirect-param`."],
        external_auth::global_redirect_parameter,
    ),
    row(
        "global-auth-response-headers",
        Class,
        ["list of names", "none", "Its `auth-response-headers`."],
        external_auth::global_response_headers,
    ),
    row(
        "global-auth-request-redirect",
        Class,
        [
            "URL with variables",
            "`$request_uri`",
            "Its `auth-request-redirect`.",
        ],
        external_auth::global_request_redirect,
    ),
    row(
        "global-auth-cache-key",
        Class,
        ["text with variables", "none", "Its `auth-cache-key`."],
        external_auth::global_cache_key,
    ),
    row(
        "global-auth-cache-duration",
        Class,
        [
            "statuses and times",
            "`200 202 401 5m`",
            "Its `auth-cache-duration`.",
        ],
        external_auth::global_cache_duration,
    ),
    row(
        "global-auth-always-set-cookie",
        Class,
        ["boolean", "`false`", "Its `auth-always-set-cookie`."],
        external_auth::global_always_set_cookie,
    ),
    row(
        "no-auth-locations",
        Class,
        [
            "list of paths",
            "`/.well-known/acme-challenge`",
            "Rules whose paths begin with one of these are not subject to `global-auth-url`.",
        ],
        external_auth::exempt,
    ),
];
