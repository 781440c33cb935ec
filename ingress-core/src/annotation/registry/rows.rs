//! The keys that are read, with what the reference says about each.

use super::Scope::{Both, Class, Ingress};
use super::{Row, row};
use crate::annotation::{
    access, backend_protocol, client_auth, headers, redirect, retry, rewrite, size,
    ssl_passthrough, timeout, tls_redirect,
};

/// In the order in which they are read: a later one may depend on an earlier one.
pub(super) const READ: &[Row] = &[
    row(
        "backend-protocol",
        Both,
        [
            "`HTTP`, `HTTPS`, `GRPC`, `GRPCS`, `AUTO_HTTP`",
            "the Service port's `appProtocol`, else `HTTP`",
            "Protocol that endpoints speak. Certificates of endpoints are not verified.",
        ],
        backend_protocol,
    ),
    row(
        "ssl-passthrough",
        Both,
        [
            "boolean",
            "`false`",
            "Passes TLS connections for the host through to the endpoint by their server name. Only the Ingress that named the host first decides, and only for its own root path.",
        ],
        ssl_passthrough,
    ),
    row(
        "proxy-body-size",
        Both,
        [
            "size",
            "`1m`",
            "Largest request body; `0` is unlimited. Larger requests are answered with 413.",
        ],
        size::proxy_body_size,
    ),
    row(
        "proxy-request-buffering",
        Both,
        [
            "`on`, `off`",
            "`on`",
            "Reads the first 64 KiB of a request body before an endpoint is chosen, so that slow clients hold none; longer bodies are streamed after that. Does not apply to gRPC. ingress-nginx reads the whole body.",
        ],
        size::proxy_request_buffering,
    ),
    row(
        "client-body-timeout",
        Class,
        [
            "seconds",
            "`60`",
            "Longest pause between two reads of a request body before an endpoint is chosen.",
        ],
        timeout::client_body,
    ),
    row(
        "proxy-connect-timeout",
        Both,
        [
            "seconds",
            "`5`",
            "Time for a connection to an endpoint. After half a second another endpoint is tried, if there is one.",
        ],
        timeout::connect,
    ),
    row(
        "proxy-send-timeout",
        Both,
        [
            "seconds",
            "`60`",
            "Longest pause without a byte to or from an endpoint while a request body is streamed to it.",
        ],
        timeout::send,
    ),
    row(
        "proxy-read-timeout",
        Both,
        [
            "seconds",
            "`60`",
            "Longest pause between two reads from an endpoint, also in a tunnel.",
        ],
        timeout::read,
    ),
    row(
        "request-timeout",
        Both,
        [
            "seconds",
            "unlimited",
            "Time from the head of a request to the end of its response. Not in ingress-nginx.",
        ],
        timeout::request,
    ),
    row(
        "proxy-next-upstream",
        Both,
        [
            "`error`, `timeout`, `invalid_header`, `http_403` … `http_504`, `non_idempotent`, `off`",
            "see [retries](retries.md)",
            "Conditions under which a request is retried on another endpoint. ingress-nginx defaults to `error timeout`.",
        ],
        retry::next_upstream,
    ),
    row(
        "proxy-next-upstream-tries",
        Both,
        [
            "number",
            "`3`",
            "Endpoints that a request is tried on; `0` is unlimited.",
        ],
        retry::tries,
    ),
    row(
        "proxy-next-upstream-timeout",
        Both,
        [
            "seconds",
            "`0`",
            "Time in which retries may begin; `0` is unlimited.",
        ],
        retry::timeout,
    ),
    row(
        "auth-tls-secret",
        Ingress,
        [
            "`namespace/name`",
            "none",
            "Secret with the authorities (`ca.crt`, optional `ca.crl`) that client certificates of the host have to be signed by. Only the Ingress that named the host first decides; rules of others that ask for certificates answer 403.",
        ],
        client_auth::secret,
    ),
    row(
        "auth-tls-verify-client",
        Both,
        [
            "`on`, `off`, `optional`, `optional_no_ca`",
            "`on`",
            "Whether a client has to send a certificate.",
        ],
        client_auth::verify_client,
    ),
    row(
        "auth-tls-verify-depth",
        Both,
        [
            "number",
            "`1`",
            "Largest number of intermediate certificates.",
        ],
        client_auth::verify_depth,
    ),
    row(
        "auth-tls-pass-certificate-to-upstream",
        Both,
        [
            "boolean",
            "`false`",
            "Whether endpoints get the certificate.",
        ],
        client_auth::pass_certificate,
    ),
    row(
        "auth-tls-error-page",
        Both,
        [
            "URL",
            "none",
            "Where clients without a valid certificate are redirected.",
        ],
        client_auth::error_page,
    ),
    row(
        "auth-tls-match-cn",
        Both,
        [
            "`CN=` and a regular expression",
            "none",
            "Common names of clients that are let in.",
        ],
        client_auth::match_cn,
    ),
    row(
        "whitelist-source-range",
        Both,
        [
            "list of CIDRs",
            "all",
            "Networks of clients that are let in; others get 403. The same as `allowlist-source-range`.",
        ],
        access::allow,
    ),
    row(
        "allowlist-source-range",
        Both,
        [
            "list of CIDRs",
            "all",
            "Networks of clients that are let in; others get 403.",
        ],
        access::allow,
    ),
    row(
        "denylist-source-range",
        Both,
        [
            "list of CIDRs",
            "none",
            "Networks of clients that get 403, also if they are in the allow list.",
        ],
        access::deny,
    ),
    row(
        "deny-answer",
        Both,
        [
            "`403`, `close`",
            "`403`",
            "What clients get that these lists keep out. `close` sends no response: it closes an HTTP/1.1 connection and resets an HTTP/2 stream, whose connection goes on with other streams. The access log has nginx's 444.",
        ],
        access::deny_answer,
    ),
    row(
        "ssl-redirect",
        Both,
        [
            "boolean",
            "`true`",
            "Redirects clear-text requests to HTTPS if a TLS section names the host. Rules for `/.well-known/acme-challenge` are exempt.",
        ],
        tls_redirect::redirect,
    ),
    row(
        "force-ssl-redirect",
        Both,
        [
            "boolean",
            "`false`",
            "Redirects clear-text requests to HTTPS even if no TLS section names the host.",
        ],
        tls_redirect::force,
    ),
    row(
        "preserve-trailing-slash",
        Both,
        [
            "boolean",
            "`false`",
            "Keeps a slash at the end of the target in the redirect to HTTPS.",
        ],
        tls_redirect::preserve_slash,
    ),
    row(
        "use-port-in-redirects",
        Ingress,
        [
            "boolean",
            "`false`",
            "The redirect to HTTPS names the port of `--https-port`, also if it is 443.",
        ],
        tls_redirect::use_port,
    ),
    row(
        "http-redirect-code",
        Class,
        [
            "`301`, `302`, `307`, `308`",
            "`308`",
            "Status of the redirect to HTTPS.",
        ],
        tls_redirect::code,
    ),
    row(
        "hsts",
        Class,
        [
            "boolean",
            "`true`",
            "Sends Strict-Transport-Security over TLS for hosts that a TLS section names.",
        ],
        tls_redirect::hsts,
    ),
    row(
        "hsts-max-age",
        Class,
        ["seconds", "`31536000`", "`max-age` of that field."],
        tls_redirect::hsts_max_age,
    ),
    row(
        "hsts-include-subdomains",
        Class,
        ["boolean", "`true`", "`includeSubDomains` of that field."],
        tls_redirect::hsts_subdomains,
    ),
    row(
        "hsts-preload",
        Class,
        ["boolean", "`false`", "`preload` of that field."],
        tls_redirect::hsts_preload,
    ),
    row(
        "permanent-redirect",
        Ingress,
        ["URL", "none", "Redirects all requests to this URL."],
        redirect::permanent,
    ),
    row(
        "permanent-redirect-code",
        Ingress,
        ["`300` to `308`", "`301`", "Status of that redirect."],
        redirect::permanent_code,
    ),
    row(
        "temporal-redirect",
        Ingress,
        [
            "URL",
            "none",
            "Redirects all requests to this URL; takes precedence over `permanent-redirect`.",
        ],
        redirect::temporal,
    ),
    row(
        "temporal-redirect-code",
        Ingress,
        ["`300` to `307`", "`302`", "Status of that redirect."],
        redirect::temporal_code,
    ),
    row(
        "use-regex",
        Ingress,
        [
            "boolean",
            "`false`",
            "Paths of the Ingress are regular expressions: case-insensitive, anchored at the start only. With `--compat=ingress-nginx` all paths of the host are.",
        ],
        rewrite::use_regex,
    ),
    row(
        "rewrite-target",
        Ingress,
        [
            "path with `$1` to `$9`",
            "none",
            "New path for the endpoint; groups are those of the rule's path, which becomes a regular expression. The query stays.",
        ],
        rewrite::target,
    ),
    row(
        "x-forwarded-prefix",
        Ingress,
        [
            "path",
            "none",
            "Value of `X-Forwarded-Prefix`, beside `rewrite-target`.",
        ],
        rewrite::forwarded_prefix,
    ),
    row(
        "app-root",
        Ingress,
        [
            "path",
            "none",
            "Redirects requests for `/` to this path with 302.",
        ],
        rewrite::app_root,
    ),
    row(
        "upstream-vhost",
        Ingress,
        ["host", "the client's", "`Host` that endpoints get."],
        rewrite::upstream_vhost,
    ),
    row(
        "custom-headers",
        Ingress,
        [
            "`namespace/name`",
            "none",
            "ConfigMap in the Ingress's namespace with fields that are set on responses. A missing ConfigMap or a field that is not in `global-allowed-response-headers` makes the rules answer 503.",
        ],
        headers::custom_headers,
    ),
    row(
        "global-allowed-response-headers",
        Class,
        [
            "list of names",
            "none",
            "Fields that `custom-headers` may set.",
        ],
        headers::allowed,
    ),
];
