//! A service that decides about requests, by ingress-nginx's names: `auth-url` and its family,
//! `enable-global-auth`, and the ConfigMap keys `global-auth-*` and `no-auth-locations`.
//!
//! Invariant: an unreadable setting refuses every request.

use std::sync::Arc;

use http::{HeaderName, Method};

use super::headers::reference;
use super::template::template;
use super::{Settings, boolean};
use crate::ir::{AuthCache, ExternalAuth, Template};

/// The settings for external authentication, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalAuthSettings {
    /// Of the Ingress.
    own: ServiceSettings,
    /// Of all Ingresses, unless one has its own.
    global: ServiceSettings,
    is_global_on: bool,
    /// Paths that need no authentication.
    exempt: Arc<[Box<str>]>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ServiceSettings {
    url: Option<Template>,
    method: Option<Arc<str>>,
    signin: Option<Template>,
    redirect_parameter: Option<Arc<str>>,
    response_headers: Box<[Box<str>]>,
    request_redirect: Option<Template>,
    cache_key: Option<Template>,
    cache_durations: Option<Durations>,
    always_sets_cookie: bool,
    /// A ConfigMap, as `namespace/name`.
    request_headers: Option<Arc<str>>,
}

type Durations = Box<[(Box<[u16]>, u32)]>;

impl Default for ExternalAuthSettings {
    fn default() -> Self {
        Self {
            own: ServiceSettings::default(),
            global: ServiceSettings::default(),
            is_global_on: true,
            exempt: ["/.well-known/acme-challenge".into()].into(),
        }
    }
}

impl ExternalAuthSettings {
    /// The service that authenticates requests to a path; `None` if no service does.
    pub(crate) fn service(&self, path: &str) -> Option<Arc<ExternalAuth>> {
        if self.is_exempt(path) {
            return None;
        }
        if self.own.url.is_some() {
            return self.own.service();
        }
        if !self.is_global_on {
            return None;
        }
        self.global.service()
    }

    /// Whether rules with a path are for everybody, as challenges of certificate authorities are.
    pub(crate) fn is_exempt(&self, path: &str) -> bool {
        self.exempt.iter().any(|exempt| path.starts_with(&**exempt))
    }

    /// The ConfigMap of fields for the service, as `namespace/name`.
    pub(crate) fn request_headers(&self) -> Option<&Arc<str>> {
        self.own.request_headers.as_ref()
    }
}

impl ServiceSettings {
    fn service(&self) -> Option<Arc<ExternalAuth>> {
        let url = self.url.clone()?;
        let durations = self.cache_durations.clone();
        let cache = self.cache_key.clone().map(|key| AuthCache {
            key,
            durations: durations.unwrap_or_else(default_durations),
        });
        let target = || template("$request_uri").unwrap_or_default();
        let parameter = self.redirect_parameter.clone();
        Some(Arc::new(ExternalAuth {
            url,
            method: self.method.clone().unwrap_or_else(|| "GET".into()),
            is_method_given: self.method.is_some(),
            signin: self.signin.clone(),
            redirect_parameter: parameter.unwrap_or_else(|| "rd".into()),
            response_headers: self.response_headers.clone(),
            request_headers: Arc::default(),
            request_redirect: self.request_redirect.clone().unwrap_or_else(target),
            cache,
            always_sets_cookie: self.always_sets_cookie,
        }))
    }
}

/// Whose service a key is about.
type Part = fn(&mut Settings) -> &mut ServiceSettings;

fn own(settings: &mut Settings) -> &mut ServiceSettings {
    &mut settings.external_auth.own
}

fn global(settings: &mut Settings) -> &mut ServiceSettings {
    &mut settings.external_auth.global
}

macro_rules! readers {
    ($($(#[$doc:meta])* $own:ident, $global:ident => $read:ident;)*) => {$(
        $(#[$doc])*
        pub(super) fn $own(value: &str, settings: &mut Settings) -> Result<(), String> {
            $read(value, settings, own)
        }

        $(#[$doc])*
        pub(super) fn $global(value: &str, settings: &mut Settings) -> Result<(), String> {
            $read(value, settings, global)
        }
    )*};
}

readers! {
    /// Source: ingress-nginx, `auth-url` and `global-auth-url`.
    url, global_url => read_url;
    /// Source: ingress-nginx, `auth-method` and `global-auth-method`.
    method, global_method => read_method;
    /// Source: ingress-nginx, `auth-signin` and `global-auth-signin`.
    signin, global_signin => read_signin;
    /// Source: ingress-nginx, `auth-signin-redirect-param` and `global-auth-signin-redirect-param`.
    redirect_parameter, global_redirect_parameter => read_redirect_parameter;
    /// Source: ingress-nginx, `auth-response-headers` and `global-auth-response-headers`.
    response_headers, global_response_headers => read_response_headers;
    /// Source: ingress-nginx, `auth-request-redirect` and `global-auth-request-redirect`.
    request_redirect, global_request_redirect => read_request_redirect;
    /// Source: ingress-nginx, `auth-cache-key` and `global-auth-cache-key`.
    cache_key, global_cache_key => read_cache_key;
    /// Source: ingress-nginx, `auth-cache-duration` and `global-auth-cache-duration`.
    cache_duration, global_cache_duration => read_cache_duration;
    /// Source: ingress-nginx, `auth-always-set-cookie` and `global-auth-always-set-cookie`.
    always_set_cookie, global_always_set_cookie => read_always_set_cookie;
}

/// Source: ingress-nginx, annotation `auth-proxy-set-headers`: `namespace/name` of a ConfigMap.
pub(super) fn proxy_set_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.external_auth.own.request_headers = Some(value.trim().into());
    reference(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `enable-global-auth`.
pub(super) fn enable_global(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.external_auth.is_global_on = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `no-auth-locations`.
pub(super) fn exempt(value: &str, settings: &mut Settings) -> Result<(), String> {
    let paths = value.split(',').map(str::trim);
    let paths: Vec<&str> = paths.filter(|path| !path.is_empty()).collect();
    if let Some(wrong) = paths.iter().find(|path| !path.starts_with('/')) {
        return Err(format!("`{wrong}` is not a path; ignored"));
    }
    settings.external_auth.exempt = paths.into_iter().map(Into::into).collect();
    Ok(())
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "the registry asks for this signature"
)]
/// Sessions of nginx's keep-alive connections to the service, which are kept here anyway.
pub(super) fn without_effect(_: &str, _: &mut Settings) -> Result<(), String> {
    Ok(())
}

fn read_url(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    part(settings).url = Some(absolute_url(value)?);
    Ok(())
}

fn read_method(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let value = value.trim();
    let is_word = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_uppercase());
    if !is_word || Method::from_bytes(value.as_bytes()).is_err() {
        return Err(format!("`{value}` is not a method"));
    }
    part(settings).method = Some(value.into());
    Ok(())
}

fn read_signin(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    part(settings).signin = Some(absolute_url(value)?);
    Ok(())
}

fn read_redirect_parameter(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not the name of a parameter"));
    }
    part(settings).redirect_parameter = Some(value.into());
    Ok(())
}

fn read_response_headers(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let names = value.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let names: Result<Box<[Box<str>]>, String> = names
        .map(|name| {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| format!("`{value}` is not a list of fields"))?;
            Ok(name.as_str().into())
        })
        .collect();
    part(settings).response_headers = names?;
    Ok(())
}

fn read_request_redirect(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    part(settings).request_redirect = Some(graphic_template(value)?);
    Ok(())
}

fn read_cache_key(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let key = template(value.trim()).map_err(|message| strip(&message))?;
    part(settings).cache_key = (!key.parts.is_empty()).then_some(key);
    Ok(())
}

/// Statuses and a time, such as `200 202 401 5m`, with commas between several.
fn read_cache_duration(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let wrong = || format!("`{value}` is not a list such as `200 202 5m, 401 30s`");
    let mut durations = Vec::new();
    for item in value.split(',').map(str::trim) {
        let mut words: Vec<&str> = item.split_whitespace().collect();
        let time = words.pop().and_then(seconds).ok_or_else(wrong)?;
        let is_any = words == ["any"];
        let statuses = words.iter().filter(|_| !is_any).map(|word| {
            let status = word.parse().ok();
            status.filter(|status| (100..600).contains(status))
        });
        let statuses: Option<Box<[u16]>> = statuses.collect();
        let statuses = statuses.ok_or_else(wrong)?;
        let statuses = if statuses.is_empty() && !is_any {
            [200, 301, 302].into()
        } else {
            statuses
        };
        durations.push((statuses, time));
    }
    part(settings).cache_durations = Some(durations.into());
    Ok(())
}

fn read_always_set_cookie(value: &str, settings: &mut Settings, part: Part) -> Result<(), String> {
    let is_on = boolean(value).map_err(|message| strip(&message))?;
    part(settings).always_sets_cookie = is_on;
    Ok(())
}

/// A time as nginx spells it: `30s`, `5m`, `2h`, `1d`, or seconds.
fn seconds(text: &str) -> Option<u32> {
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 's') => (&text[..at], 1),
        (at, 'm') => (&text[..at], 60),
        (at, 'h') => (&text[..at], 3600),
        (at, 'd') => (&text[..at], 86_400),
        _ => (text, 1),
    };
    digits.parse::<u32>().ok()?.checked_mul(unit)
}

/// Source: ingress-nginx, default of `auth-cache-duration`.
fn default_durations() -> Durations {
    [([200, 202, 401].into(), 300)].into()
}

/// An absolute URL whose scheme and authority are there before anything is filled in, or begin with
/// variables that are filled in with them.
fn absolute_url(value: &str) -> Result<Template, String> {
    let url = graphic_template(value)?;
    let text = url.leading_text();
    let has_scheme = text.starts_with("http://") || text.starts_with("https://");
    let is_variable = text.is_empty() && value.contains("://");
    let host = text.split_once("://").map_or("", |(_, rest)| rest);
    let is_named = !host.is_empty() && !host.starts_with('/') || url.parts.len() > 1;
    if (has_scheme || is_variable) && is_named {
        Ok(url)
    } else {
        Err(format!(
            "`{value}` is not a URL that begins with http:// or https://"
        ))
    }
}

/// A template of visible ASCII.
fn graphic_template(value: &str) -> Result<Template, String> {
    let value = value.trim();
    if value.is_empty() || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "`{value}` is empty or has characters that a URL may not have"
        ));
    }
    template(value).map_err(|message| strip(&message))
}

fn strip(message: &str) -> String {
    message.trim_end_matches("; ignored").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    type Read = fn(&str, &mut Settings) -> Result<(), String>;

    fn read(entries: &[(&str, Read)]) -> Settings {
        let mut settings = Settings::default();
        for (value, read) in entries {
            read(value, &mut settings).unwrap();
        }
        settings
    }

    #[test]
    fn service_has_the_defaults_of_ingress_nginx() {
        let settings = read(&[("http://auth.test/check", url)]);
        let service = settings.external_auth.service("/").unwrap();
        assert_eq!((&*service.method, service.is_method_given), ("GET", false));
        assert_eq!(&*service.redirect_parameter, "rd");
        assert_eq!(service.cache, None);
        assert!(Settings::default().external_auth.service("/").is_none());
    }

    #[test]
    fn global_service_counts_unless_an_ingress_has_its_own_or_none() {
        let settings = read(&[("http://global.test/", global_url)]);
        assert!(settings.external_auth.service("/a").is_some());
        let challenge = "/.well-known/acme-challenge/x";
        assert!(settings.external_auth.service(challenge).is_none());
        let own = read(&[
            ("http://global.test/", global_url),
            ("http://own.test/", url),
        ]);
        assert!(own.external_auth.service(challenge).is_none());
        let service = own.external_auth.service("/a").unwrap();
        assert_eq!(service.url.as_text(), Some("http://own.test/"));
        let off = read(&[
            ("http://global.test/", global_url),
            ("false", enable_global),
        ]);
        assert!(off.external_auth.service("/").is_none());
    }

    #[test]
    fn durations_name_statuses() {
        let settings = read(&[
            ("http://a.test/", url),
            ("$http_cookie", cache_key),
            ("200 202 10m, 401 30s", cache_duration),
        ]);
        let cache = settings
            .external_auth
            .service("/")
            .unwrap()
            .cache
            .clone()
            .unwrap();
        let seconds = [200, 202, 401, 403].map(|status| cache.seconds(status));
        assert_eq!(seconds, [600, 600, 30, 0]);
        for wrong in ["", "200 x", "99 5m", "200 5m,"] {
            cache_duration(wrong, &mut Settings::default()).unwrap_err();
        }
    }

    #[test]
    fn urls_are_absolute_and_hold_no_control_character() {
        for good in [
            "http://oauth2-proxy.default.svc.cluster.local:4180/oauth2/auth",
            "https://$host/oauth2/auth",
            "$scheme://$host/oauth2/start?rd=$escaped_request_uri",
        ] {
            url(good, &mut Settings::default()).unwrap();
        }
        for wrong in [
            "",
            "/auth",
            "ftp://a.test",
            "http://",
            "http:///x",
            "http://a.test/\r\nx",
            "http://a b",
            "http://$nothing/",
        ] {
            url(wrong, &mut Settings::default()).unwrap_err();
        }
        for wrong in ["", "get", "GET /x", "G\nX"] {
            method(wrong, &mut Settings::default()).unwrap_err();
        }
    }
}
