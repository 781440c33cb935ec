//! Changes to fields of responses, by ingress-nginx's names: `proxy-cookie-domain`,
//! `proxy-cookie-path`, `proxy-redirect-from`, `proxy-redirect-to`; and the ConfigMap keys
//! `hide-headers`, `add-headers` and `proxy-set-headers`.

use std::sync::Arc;

use http::HeaderName;

use super::Settings;
use super::headers::reference;
use super::template::template;
use crate::ir::{Replacement, ResponseRewrite, Template};

/// The settings for rewriting fields of responses, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ResponseRewriteSettings {
    cookie_domain: Option<Replacement>,
    cookie_path: Option<Replacement>,
    location_from: Option<Template>,
    location_to: Option<Template>,
}

impl ResponseRewriteSettings {
    /// The pieces together, if there are any.
    pub(super) fn rewrite(&self) -> Option<Arc<ResponseRewrite>> {
        let location = self.location_from.clone().zip(self.location_to.clone());
        let rewrite = ResponseRewrite {
            cookie_domain: self.cookie_domain.clone(),
            cookie_path: self.cookie_path.clone(),
            location: location.map(|(from, to)| Replacement { from, to }),
        };
        (rewrite != ResponseRewrite::default()).then(|| Arc::new(rewrite))
    }
}

/// Source: ingress-nginx, annotation `proxy-cookie-domain`.
pub(super) fn cookie_domain(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.response_rewrite.cookie_domain = pair(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-cookie-path`.
pub(super) fn cookie_path(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.response_rewrite.cookie_path = pair(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-redirect-from`. `default` stands for the URL that nginx
/// itself sends requests to, which no endpoint names.
pub(super) fn redirect_from(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.response_rewrite.location_from = one(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-redirect-to`.
pub(super) fn redirect_to(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.response_rewrite.location_to = one(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `hide-headers`.
pub(super) fn hide_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    let names = value.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let names: Result<Arc<[Box<str>]>, String> = names
        .map(|name| {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| format!("`{value}` is not a list of fields; ignored"))?;
            Ok(name.as_str().into())
        })
        .collect();
    settings.hidden_headers = names?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `add-headers`: `namespace/name` of a ConfigMap.
pub(super) fn add_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    let found = reference(value).map_err(|message| message + "; ignored")?;
    settings.add_headers = Some(found);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `proxy-set-headers`: `namespace/name` of a ConfigMap.
pub(super) fn set_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    let found = reference(value).map_err(|message| message + "; ignored")?;
    settings.set_headers = Some(found);
    Ok(())
}

/// `off`, or what is replaced and by what with spaces between.
fn pair(value: &str) -> Result<Option<Replacement>, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    match words[..] {
        [] | ["off"] => Ok(None),
        [from, to] => Ok(Some(Replacement {
            from: attribute(from)?,
            to: attribute(to)?,
        })),
        _ => Err(format!("`{value}` is not `off` or two texts; ignored")),
    }
}

fn one(value: &str) -> Result<Option<Template>, String> {
    match value.trim() {
        "" | "off" | "default" => Ok(None),
        text if text.bytes().all(|byte| byte.is_ascii_graphic()) => template(text).map(Some),
        text => Err(format!("`{text}` is not a URL or path; ignored")),
    }
}

fn attribute(text: &str) -> Result<Template, String> {
    let is_part = |byte: u8| byte.is_ascii_graphic() && byte != b';' && byte != b',';
    if !text.bytes().all(is_part) {
        return Err(format!("`{text}` cannot stand in a cookie; ignored"));
    }
    if text.starts_with('~') {
        return Err(format!("`{text}`: expressions are not supported; ignored"));
    }
    template(text)
}
