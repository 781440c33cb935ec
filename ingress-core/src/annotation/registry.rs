//! Every key that is known: those that are read, and those of ingress-nginx that are not.
//!
//! A key is a row here and a function in the file of its group; nothing else lists keys.

use super::{
    Settings, access, balance, client_auth, headers, redirect, retry, rewrite, size, timeout,
    tls_redirect,
};

/// A key that is read.
pub(super) struct Row {
    pub(super) key: &'static str,
    pub(super) scope: Scope,
    pub(super) read: fn(&str, &mut Settings) -> Result<(), String>,
}

/// Where a key may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// In an annotation of an Ingress and in the parameters of a class.
    Both,
    /// In an annotation only.
    Ingress,
    /// In the parameters of a class only.
    Class,
}

/// What becomes of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is honoured.
    Supported,
    /// It tunes what only nginx has; leaving it out changes nothing that a client could notice.
    Harmless,
    /// ingress-nginx has it, or once had it, and this controller does not.
    Unsupported,
    /// Neither has it.
    Unknown,
}

/// The keys that are read, in the order in which they are: a later one may depend on an earlier
/// one.
pub(super) fn readable() -> impl Iterator<Item = &'static Row> {
    READ.iter()
}

/// What becomes of the annotation with this key, without its prefix.
pub fn support(key: &str) -> Support {
    let is_read = |row: &&Row| row.key == key && row.scope != Scope::Class;
    if readable().any(|row| is_read(&row)) {
        Support::Supported
    } else if HARMLESS.contains(&key) {
        Support::Harmless
    } else if UNSUPPORTED.contains(&key) {
        Support::Unsupported
    } else {
        Support::Unknown
    }
}

/// Every key of an annotation that is known, without its prefix.
pub fn known_keys() -> impl Iterator<Item = &'static str> {
    let read = readable().filter(|row| row.scope != Scope::Class);
    let read = read.map(|row| row.key);
    read.chain(HARMLESS.iter().chain(UNSUPPORTED).copied())
}

const fn row(
    key: &'static str,
    scope: Scope,
    read: fn(&str, &mut Settings) -> Result<(), String>,
) -> Row {
    Row { key, scope, read }
}

const READ: &[Row] = &[
    row("backend-protocol", Scope::Both, super::backend_protocol),
    row("ssl-passthrough", Scope::Both, super::ssl_passthrough),
    row("proxy-body-size", Scope::Both, size::proxy_body_size),
    row("proxy-connect-timeout", Scope::Both, timeout::connect),
    row("proxy-send-timeout", Scope::Both, timeout::send),
    row("proxy-read-timeout", Scope::Both, timeout::read),
    row("request-timeout", Scope::Both, timeout::request),
    row("proxy-next-upstream", Scope::Both, retry::next_upstream),
    row("proxy-next-upstream-tries", Scope::Both, retry::tries),
    row("proxy-next-upstream-timeout", Scope::Both, retry::timeout),
    // The hash comes after what it counts more than.
    row("load-balance", Scope::Both, balance::load_balance),
    row("upstream-hash-by", Scope::Both, balance::upstream_hash_by),
    row("affinity", Scope::Both, balance::affinity),
    row("affinity-mode", Scope::Both, balance::affinity_mode),
    row("session-cookie-name", Scope::Both, balance::cookie_name),
    row("session-cookie-path", Scope::Both, balance::cookie_path),
    row("session-cookie-domain", Scope::Both, balance::cookie_domain),
    row(
        "session-cookie-max-age",
        Scope::Both,
        balance::cookie_max_age,
    ),
    row(
        "session-cookie-samesite",
        Scope::Both,
        balance::cookie_same_site,
    ),
    row("session-cookie-secure", Scope::Both, balance::cookie_secure),
    row(
        "session-cookie-change-on-failure",
        Scope::Both,
        balance::change_on_failure,
    ),
    row("auth-tls-secret", Scope::Ingress, client_auth::secret),
    row(
        "auth-tls-verify-client",
        Scope::Both,
        client_auth::verify_client,
    ),
    row(
        "auth-tls-verify-depth",
        Scope::Both,
        client_auth::verify_depth,
    ),
    row(
        "auth-tls-pass-certificate-to-upstream",
        Scope::Both,
        client_auth::pass_certificate,
    ),
    row("auth-tls-error-page", Scope::Both, client_auth::error_page),
    row("auth-tls-match-cn", Scope::Both, client_auth::match_cn),
    row("whitelist-source-range", Scope::Both, access::allow),
    row("allowlist-source-range", Scope::Both, access::allow),
    row("denylist-source-range", Scope::Both, access::deny),
    row("ssl-redirect", Scope::Both, tls_redirect::redirect),
    row("force-ssl-redirect", Scope::Both, tls_redirect::force),
    row(
        "preserve-trailing-slash",
        Scope::Both,
        tls_redirect::preserve_slash,
    ),
    row("http-redirect-code", Scope::Class, tls_redirect::code),
    row("hsts", Scope::Class, tls_redirect::hsts),
    row("hsts-max-age", Scope::Class, tls_redirect::hsts_max_age),
    row(
        "hsts-include-subdomains",
        Scope::Class,
        tls_redirect::hsts_subdomains,
    ),
    row("hsts-preload", Scope::Class, tls_redirect::hsts_preload),
    row("permanent-redirect", Scope::Ingress, redirect::permanent),
    row(
        "permanent-redirect-code",
        Scope::Ingress,
        redirect::permanent_code,
    ),
    row("temporal-redirect", Scope::Ingress, redirect::temporal),
    row(
        "temporal-redirect-code",
        Scope::Ingress,
        redirect::temporal_code,
    ),
    row("use-regex", Scope::Ingress, rewrite::use_regex),
    row("rewrite-target", Scope::Ingress, rewrite::target),
    row(
        "x-forwarded-prefix",
        Scope::Ingress,
        rewrite::forwarded_prefix,
    ),
    row("app-root", Scope::Ingress, rewrite::app_root),
    row("upstream-vhost", Scope::Ingress, rewrite::upstream_vhost),
    row("custom-headers", Scope::Ingress, headers::custom_headers),
    row(
        "global-allowed-response-headers",
        Scope::Class,
        headers::allowed,
    ),
];

const HARMLESS: &[&str] = &[
    "client-body-buffer-size",
    "connection-proxy-header",
    "enable-dynamic-tls-records",
    "enable-rewrite-log",
    "http2-push-preload",
    "proxy-buffer-size",
    "proxy-buffering",
    "proxy-buffers",
    "proxy-buffers-number",
    "proxy-busy-buffers-size",
    "proxy-http-version",
    "proxy-max-temp-file-size",
    "websocket-services",
];

const UNSUPPORTED: &[&str] = &[
    "affinity-canary-behavior",
    "auth-always-set-cookie",
    "auth-cache-duration",
    "auth-cache-key",
    "auth-keepalive",
    "auth-keepalive-requests",
    "auth-keepalive-share-vars",
    "auth-keepalive-timeout",
    "auth-method",
    "auth-proxy-set-headers",
    "auth-realm",
    "auth-request-redirect",
    "auth-response-headers",
    "auth-secret",
    "auth-secret-type",
    "auth-signin",
    "auth-signin-redirect-param",
    "auth-snippet",
    "auth-type",
    "auth-url",
    "canary",
    "canary-by-cookie",
    "canary-by-header",
    "canary-by-header-pattern",
    "canary-by-header-value",
    "canary-weight",
    "canary-weight-total",
    "configuration-snippet",
    "cors-allow-credentials",
    "cors-allow-headers",
    "cors-allow-methods",
    "cors-allow-origin",
    "cors-expose-headers",
    "cors-max-age",
    "custom-http-errors",
    "default-backend",
    "disable-proxy-intercept-errors",
    "enable-access-log",
    "enable-cors",
    "enable-global-auth",
    "enable-influxdb",
    "enable-modsecurity",
    "enable-opentelemetry",
    "enable-opentracing",
    "enable-owasp-core-rules",
    "fastcgi-index",
    "fastcgi-params-configmap",
    "from-to-www-redirect",
    "global-rate-limit",
    "global-rate-limit-ignored-cidrs",
    "global-rate-limit-key",
    "global-rate-limit-window",
    "grpc-backend",
    "limit-allowlist",
    "limit-burst-multiplier",
    "limit-connections",
    "limit-rate",
    "limit-rate-after",
    "limit-rpm",
    "limit-rps",
    "limit-whitelist",
    "mirror-host",
    "mirror-request-body",
    "mirror-target",
    "modsecurity-snippet",
    "modsecurity-transaction-id",
    "opentelemetry-operation-name",
    "opentelemetry-trust-incoming-span",
    "opentracing-trust-incoming-span",
    "proxy-cookie-domain",
    "proxy-cookie-path",
    "proxy-redirect-from",
    "proxy-redirect-to",
    "proxy-request-buffering",
    "proxy-ssl-ciphers",
    "proxy-ssl-name",
    "proxy-ssl-protocols",
    "proxy-ssl-secret",
    "proxy-ssl-server-name",
    "proxy-ssl-verify",
    "proxy-ssl-verify-depth",
    "relative-redirects",
    "satisfy",
    "secure-backends",
    "secure-verify-ca-secret",
    "server-alias",
    "server-snippet",
    "service-upstream",
    "session-cookie-conditional-samesite-none",
    "session-cookie-expires",
    "ssl-ciphers",
    "ssl-prefer-server-ciphers",
    "stream-snippet",
    "upstream-hash-by-subset",
    "upstream-hash-by-subset-size",
    "use-port-in-redirects",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keys of ingress-nginx 1.15.1, its last release.
    const INGRESS_NGINX: &str = include_str!("../../tests/ingress_nginx_keys.txt");

    #[test]
    fn every_key_of_ingress_nginx_is_known() {
        for key in INGRESS_NGINX.lines() {
            assert_ne!(support(key), Support::Unknown, "{key}");
        }
    }

    #[test]
    fn no_key_stands_twice() {
        let mut seen = BTreeSet::new();
        for key in known_keys() {
            assert!(seen.insert(key), "{key}");
        }
    }
}
