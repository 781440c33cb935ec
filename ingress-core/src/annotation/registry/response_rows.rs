//! The rows of annotations for response fields and for hosts.

use super::Scope::{Both, Class, Ingress};
use super::{Row, row};
use crate::annotation::{
    access_log, balance, compression, cors, error_pages, host, no_access_log, response_rewrite,
    snippet,
};

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "enable-cors",
        Both,
        [
            "boolean",
            "`false`",
            "Answers preflight requests and sets the fields of cross-origin responses.",
        ],
        cors::enable,
    ),
    row(
        "cors-allow-origin",
        Both,
        [
            "list of origins",
            "`*`",
            "Origins that are answered; `https://*.example.com` is one label more.",
        ],
        cors::allow_origin,
    ),
    row(
        "cors-allow-methods",
        Both,
        [
            "list of methods",
            "`GET, PUT, POST, DELETE, PATCH, OPTIONS`",
            "Value of `Access-Control-Allow-Methods`.",
        ],
        cors::allow_methods,
    ),
    row(
        "cors-allow-headers",
        Both,
        [
            "list of names",
            "see ingress-nginx",
            "Value of `Access-Control-Allow-Headers`.",
        ],
        cors::allow_headers,
    ),
    row(
        "cors-expose-headers",
        Both,
        [
            "list of names",
            "none",
            "Value of `Access-Control-Expose-Headers`.",
        ],
        cors::expose_headers,
    ),
    row(
        "cors-allow-credentials",
        Both,
        [
            "boolean",
            "`true`",
            "Whether `Access-Control-Allow-Credentials` is set.",
        ],
        cors::allow_credentials,
    ),
    row(
        "cors-max-age",
        Both,
        ["seconds", "`1728000`", "Value of `Access-Control-Max-Age`."],
        cors::max_age,
    ),
    row(
        "proxy-cookie-domain",
        Both,
        [
            "`off` or two texts",
            "`off`",
            "Replaces the domain of cookies.",
        ],
        response_rewrite::cookie_domain,
    ),
    row(
        "proxy-cookie-path",
        Both,
        [
            "`off` or two texts",
            "`off`",
            "Replaces the start of the path of cookies.",
        ],
        response_rewrite::cookie_path,
    ),
    row(
        "proxy-redirect-from",
        Both,
        [
            "text",
            "`off`",
            "Start of `Location` and `Refresh` that is replaced by `proxy-redirect-to`.",
        ],
        response_rewrite::redirect_from,
    ),
    row(
        "proxy-redirect-to",
        Both,
        ["text", "`off`", "See `proxy-redirect-from`."],
        response_rewrite::redirect_to,
    ),
    row(
        "hide-headers",
        Class,
        [
            "list of names",
            "none",
            "Fields that are removed from responses of endpoints.",
        ],
        response_rewrite::hide_headers,
    ),
    row(
        "add-headers",
        Class,
        [
            "`namespace/name`",
            "none",
            "ConfigMap with fields that are set on all responses.",
        ],
        response_rewrite::add_headers,
    ),
    row(
        "proxy-set-headers",
        Class,
        [
            "`namespace/name`",
            "none",
            "ConfigMap with fields that endpoints get with all requests; values may have variables.",
        ],
        response_rewrite::set_headers,
    ),
    row(
        "custom-http-errors",
        Both,
        [
            "list of statuses",
            "none",
            "Responses of endpoints with one of these statuses are replaced by one of the default backend.",
        ],
        error_pages::statuses,
    ),
    row(
        "default-backend",
        Ingress,
        [
            "Service",
            "`--default-backend-service`",
            "Answers where the backend of a rule has no ready endpoint, and for `custom-http-errors`.",
        ],
        error_pages::default_backend,
    ),
    row(
        "disable-proxy-intercept-errors",
        Both,
        [
            "boolean",
            "`false`",
            "Leaves responses of endpoints as they are.",
        ],
        error_pages::disable,
    ),
    row(
        "acme",
        Ingress,
        [
            "name of an issuer",
            "none",
            "Orders the certificates of its TLS sections from this issuer of `--acme-issuer` and renews them ([acme.md](acme.md)). Not in ingress-nginx.",
        ],
        host::acme,
    ),
    row(
        "server-alias",
        Ingress,
        [
            "list of hosts",
            "none",
            "Further hosts for the rules, unless another Ingress names them. No expressions.",
        ],
        host::alias,
    ),
    row(
        "from-to-www-redirect",
        Ingress,
        [
            "boolean",
            "`false`",
            "Redirects the host with `www.`, or without it, to the one of the rule.",
        ],
        host::from_to_www,
    ),
    row(
        "session-cookie-expires",
        Both,
        [
            "seconds",
            "none",
            "`Expires` of the cookie, from the response on.",
        ],
        balance::cookie_expires,
    ),
    row(
        "enable-access-log",
        Ingress,
        [
            "boolean",
            "`true`",
            "Whether requests are written to the access log.",
        ],
        access_log,
    ),
    row(
        "disable-access-log",
        Class,
        [
            "boolean",
            "`false`",
            "Leaves all requests out of the access log.",
        ],
        no_access_log,
    ),
    row(
        "use-gzip",
        Class,
        [
            "boolean",
            "`false`",
            "Compresses responses by gzip for clients that accept it.",
        ],
        compression::use_gzip,
    ),
    row(
        "gzip-level",
        Class,
        ["1 to 9", "`1`", "How hard it tries."],
        compression::gzip_level,
    ),
    row(
        "gzip-min-length",
        Class,
        [
            "bytes",
            "`256`",
            "Shortest body that is compressed, where the length is known.",
        ],
        compression::gzip_bytes_min,
    ),
    row(
        "gzip-types",
        Class,
        [
            "list of media types",
            "see ingress-nginx",
            "Types that are compressed, besides `text/html`; `*` is all.",
        ],
        compression::gzip_types,
    ),
    row(
        "enable-brotli",
        Class,
        [
            "boolean",
            "`false`",
            "Compresses responses by brotli for clients that accept it.",
        ],
        compression::enable_brotli,
    ),
    row(
        "brotli-level",
        Class,
        ["0 to 11", "`4`", "How hard it tries."],
        compression::brotli_level,
    ),
    row(
        "brotli-min-length",
        Class,
        [
            "bytes",
            "`20`",
            "Shortest body that is compressed, where the length is known.",
        ],
        compression::brotli_bytes_min,
    ),
    row(
        "brotli-types",
        Class,
        [
            "list of media types",
            "see ingress-nginx",
            "Types that are compressed, besides `text/html`; `*` is all.",
        ],
        compression::brotli_types,
    ),
    row(
        "enable-zstd",
        Class,
        [
            "boolean",
            "`false`",
            "Compresses responses by zstd for clients that accept it. Not in ingress-nginx.",
        ],
        compression::enable_zstd,
    ),
    row(
        "zstd-level",
        Class,
        ["1 to 19", "`3`", "How hard it tries."],
        compression::zstd_level,
    ),
    row(
        "zstd-min-length",
        Class,
        [
            "bytes",
            "`256`",
            "Shortest body that is compressed, where the length is known.",
        ],
        compression::zstd_bytes_min,
    ),
    row(
        "zstd-types",
        Class,
        [
            "list of media types",
            "see ingress-nginx",
            "Types that are compressed, besides `text/html`; `*` is all.",
        ],
        compression::zstd_types,
    ),
    row(
        "allow-snippet-annotations",
        Class,
        [
            "boolean",
            "`false`",
            "Whether snippets are read. `add_header`, `more_set_headers`, `more_clear_headers`, `proxy_set_header`, `proxy_hide_header`, `return` and `sub_filter` are honoured, also `return` in `if` blocks that compare a variable and `return` and `deny all` in `location` blocks; any other directive makes the rules answer 503.",
        ],
        snippet::allow,
    ),
    row(
        "configuration-snippet",
        Ingress,
        ["directives", "none", "See `allow-snippet-annotations`."],
        snippet::read,
    ),
    row(
        "server-snippet",
        Ingress,
        [
            "directives",
            "none",
            "As `configuration-snippet`, for the rules of this Ingress.",
        ],
        snippet::read,
    ),
];
