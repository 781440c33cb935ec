//! Which keys restrict access, so that a mistake about them shuts clients out.
//!
//! Invariant: a key that restricts access and that this controller cannot honour never leaves its
//! routes open (fail closed).

/// Whether a key, without its prefix, restricts access to the routes of its Ingress. Goes by the
/// families of names, so that a misspelt key of a family counts as well.
pub fn restricts_access(key: &str) -> bool {
    key.starts_with("auth-")
        || key.ends_with("-source-range")
        || key.starts_with("limit-")
        || key.starts_with("global-rate-limit")
        || key == "satisfy"
        || key.contains("modsecurity")
        || key == "enable-owasp-core-rules"
        || key == "ssl-redirect"
        || key == "force-ssl-redirect"
        || key.starts_with("proxy-ssl-")
        || key.ends_with("-snippet")
        || key == "secure-verify-ca-secret"
}

/// Whether a key of a class's parameters restricts access to all routes of the class.
pub(super) fn parameter_restricts_access(key: &str) -> bool {
    let only_tunes = [
        "limit-req-status-code",
        "limit-conn-status-code",
        "limit-conn-zone-variable",
        "limit-rate-after",
    ];
    let is_more = key.starts_with("global-auth-") || key.starts_with("block-");
    (restricts_access(key) || is_more) && !only_tunes.contains(&key)
}

/// Whether a value of such a key switches its restriction off, or adds nothing to it.
pub(super) fn is_off(key: &str, value: &str) -> bool {
    let value = value.trim();
    let is_false = super::boolean(value) == Ok(false);
    match key {
        "auth-type" | "auth-url" | "auth-snippet" | "auth-secret" | "global-auth-url"
        | "proxy-ssl-secret" | "block-cidrs" | "block-user-agents" | "block-referers" => {
            value.is_empty()
        }
        "satisfy" => value == "all",
        "enable-modsecurity" | "enable-owasp-core-rules" | "auth-always-set-cookie" => is_false,
        "proxy-ssl-verify" | "proxy-ssl-server-name" => value == "off",
        "limit-whitelist" | "limit-allowlist" | "limit-rate-after" | "limit-burst-multiplier" => {
            true
        }
        _ if key.starts_with("limit-") => value == "0",
        _ if key.ends_with("-snippet") => value.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_restricting_keys_are_known_by_their_names() {
        for key in [
            "auth-type",
            "auth-tls-secret",
            "auth-url",
            "whitelist-source-range",
            "allowlist-source-range",
            "denylist-source-range",
            "limit-rps",
            "satisfy",
            "enable-modsecurity",
            "modsecurity-snippet",
            "enable-owasp-core-rules",
            "ssl-redirect",
            "force-ssl-redirect",
            "proxy-ssl-verify",
            "configuration-snippet",
            "server-snippet",
            "stream-snippet",
            "auth-snippet",
        ] {
            assert!(restricts_access(key), "{key}");
        }
        for key in ["rewrite-target", "proxy-body-size", "canary", "use-regex"] {
            assert!(!restricts_access(key), "{key}");
        }
    }

    #[test]
    fn values_that_switch_a_restriction_off_leave_routes_open() {
        assert!(is_off("enable-modsecurity", "false"));
        assert!(!is_off("enable-modsecurity", "true"));
        assert!(is_off("limit-rps", "0") && !is_off("limit-rps", "10"));
        assert!(is_off("satisfy", "all") && !is_off("satisfy", "any"));
        assert!(is_off("auth-type", "") && !is_off("auth-type", "basic"));
    }
}
