//! Redirects clear-text requests to HTTPS, and HSTS (RFC 6797).
//!
//! Source: ingress-nginx, annotations `ssl-redirect` and `force-ssl-redirect`: the host without its
//! port, the target as the client sent it, without a slash at its end.

use http::header::STRICT_TRANSPORT_SECURITY;
use http::{HeaderMap, HeaderValue};

use super::{Answer, Context, Decision, host_of};
use crate::ir::{Hsts, TlsRedirect};

pub(super) fn on_request(settings: TlsRedirect, context: &Context<'_>) -> Decision {
    if context.is_https {
        return Decision::Continue;
    }
    Decision::Respond(redirect(settings, context))
}

/// In place of what the endpoint says about it, as ingress-nginx does.
pub(super) fn set_hsts(hsts: &Hsts, fields: &mut HeaderMap) {
    if let Ok(value) = HeaderValue::from_str(&hsts.value) {
        fields.insert(STRICT_TRANSPORT_SECURITY, value);
    }
}

fn redirect(settings: TlsRedirect, context: &Context<'_>) -> Answer {
    let mut target = context.target;
    if !settings.preserves_trailing_slash {
        target = target.strip_suffix(b"/").unwrap_or(target);
    }
    let host = host_of(context.authority);
    let port = settings
        .port
        .map_or_else(String::new, |port| format!(":{port}"));
    let location = [b"https://", host.as_bytes(), port.as_bytes(), target].concat();
    Answer::redirect(settings.code, &location)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(authority: &str, target: &str, preserves_trailing_slash: bool) -> String {
        let settings = TlsRedirect {
            preserves_trailing_slash,
            ..TlsRedirect::default()
        };
        location_by(settings, authority, target)
    }

    fn location_by(settings: TlsRedirect, authority: &str, target: &str) -> String {
        let context = Context {
            is_https: false,
            method: "GET",
            headers: &HeaderMap::new(),
            authority,
            path: b"/",
            target: target.as_bytes(),
            client: [127, 0, 0, 1].into(),
        };
        let answer = redirect(settings, &context);
        assert_eq!(answer.status, 308);
        answer.location.unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn redirect_keeps_host_and_target_without_port_and_last_slash() {
        let redirected = location("a.test:8080", "/x/?a=b", false);
        assert_eq!(redirected, "https://a.test/x/?a=b");
        assert_eq!(location("a.test", "/", false), "https://a.test");
        assert_eq!(location("a.test", "/x/", false), "https://a.test/x");
        assert_eq!(location("a.test", "/x/", true), "https://a.test/x/");
        assert_eq!(location("[::1]:80", "/x", false), "https://[::1]/x");
        let settings = TlsRedirect {
            port: Some(443),
            ..TlsRedirect::default()
        };
        let redirected = location_by(settings, "a.test:80", "/x");
        assert_eq!(redirected, "https://a.test:443/x");
    }
}
