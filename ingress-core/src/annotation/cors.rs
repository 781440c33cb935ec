//! Cross-origin requests, by ingress-nginx's names: `enable-cors` and `cors-*`.

use std::sync::Arc;

use super::{Settings, boolean};
use crate::ir::{Cors, CorsOrigins, OriginPattern};

/// The settings for CORS, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CorsSettings {
    is_on: bool,
    cors: Cors,
}

impl Default for CorsSettings {
    fn default() -> Self {
        Self {
            is_on: false,
            cors: Cors {
                origins: CorsOrigins::Any,
                methods: "GET, PUT, POST, DELETE, PATCH, OPTIONS".into(),
                headers: "DNT,Keep-Alive,User-Agent,X-Requested-With,If-Modified-Since,Cache-Control,Content-Type,Range,Authorization".into(),
                exposed: None,
                credentials: true,
                max_age: 1_728_000,
            },
        }
    }
}

impl CorsSettings {
    /// The pieces together, if they are asked for.
    pub(super) fn cors(&self) -> Option<Arc<Cors>> {
        self.is_on.then(|| Arc::new(self.cors.clone()))
    }
}

/// Source: ingress-nginx, annotation `enable-cors`.
pub(super) fn enable(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.cors.is_on = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-allow-origin`; invalid items are left out there, and an
/// error here.
pub(super) fn allow_origin(value: &str, settings: &mut Settings) -> Result<(), String> {
    let items = value.split(',').map(str::trim);
    let items: Vec<&str> = items.filter(|item| !item.is_empty()).collect();
    settings.cors.cors.origins = if items.contains(&"*") {
        CorsOrigins::Any
    } else {
        let patterns: Result<Box<[_]>, _> = items.iter().map(|item| origin(item)).collect();
        CorsOrigins::Listed(patterns?)
    };
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-allow-methods`.
pub(super) fn allow_methods(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.cors.cors.methods = tokens(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-allow-headers`.
pub(super) fn allow_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.cors.cors.headers = tokens(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-expose-headers`.
pub(super) fn expose_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.cors.cors.exposed = Some(tokens(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-allow-credentials`.
pub(super) fn allow_credentials(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.cors.cors.credentials = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `cors-max-age`.
pub(super) fn max_age(value: &str, settings: &mut Settings) -> Result<(), String> {
    let seconds = value.trim().parse();
    settings.cors.cors.max_age =
        seconds.map_err(|_| format!("`{value}` is not a number of seconds; ignored"))?;
    Ok(())
}

/// An origin: `null`, or a scheme, a host that may begin with `*.`, and maybe a port.
fn origin(text: &str) -> Result<OriginPattern, String> {
    let wrong = || format!("`{text}` is not an origin such as https://*.example.com; ignored");
    let lower = text.to_ascii_lowercase();
    if lower == "null" {
        return Ok(OriginPattern {
            before: lower.into(),
            after: None,
        });
    }
    let (scheme, host) = lower.split_once("://").ok_or_else(wrong)?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (is_wildcard, host) = match host.strip_prefix("*.") {
        Some(rest) => (true, rest),
        None => (false, host),
    };
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if !is_scheme || host.is_empty() || !host.bytes().all(is_part) {
        return Err(wrong());
    }
    Ok(if is_wildcard {
        OriginPattern {
            before: format!("{scheme}://").into(),
            after: Some(format!(".{host}").into()),
        }
    } else {
        OriginPattern {
            before: lower.into(),
            after: None,
        }
    })
}

/// A list of names, as it stands.
fn tokens(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-_*, ".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not a list of names; ignored"));
    }
    Ok(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(list: &str, asked: &str) -> bool {
        let mut settings = Settings::default();
        allow_origin(list, &mut settings).unwrap();
        settings.cors.cors.origins.admit(asked.as_bytes())
    }

    #[test]
    fn origins_are_exact_or_have_one_label_more() {
        assert!(admits("*", "https://a.test"));
        assert!(admits(
            "https://a.test, https://b.test:8443",
            "https://B.test:8443"
        ));
        assert!(admits("https://*.a.test", "https://x.a.test"));
        assert!(admits("null", "null"));
        for asked in [
            "https://a.test",
            "https://x.y.a.test",
            "http://x.a.test",
            "https://x.a.test.evil.test",
            "https://evil.test/https://x.a.test",
            "https://.a.test",
            "",
        ] {
            assert!(!admits("https://*.a.test", asked), "{asked}");
        }
        for wrong in [
            "a.test",
            "https://",
            "https://a b",
            "https://a.test/x",
            "https://*",
        ] {
            allow_origin(wrong, &mut Settings::default()).unwrap_err();
        }
    }

    #[test]
    fn values_never_hold_what_a_field_may_not_have() {
        for wrong in ["", "GET\r\nX: y", "GET;", "\"GET\""] {
            allow_methods(wrong, &mut Settings::default()).unwrap_err();
            allow_headers(wrong, &mut Settings::default()).unwrap_err();
            expose_headers(wrong, &mut Settings::default()).unwrap_err();
        }
    }
}
