//! Redirects of all requests, by ingress-nginx's names: `permanent-redirect`,
//! `permanent-redirect-code`, `temporal-redirect` and `temporal-redirect-code`.

use std::sync::Arc;

use super::Settings;
use crate::ir::Redirect;

/// The settings for redirects, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct RedirectSettings {
    permanent: Option<Arc<str>>,
    permanent_code: Option<u16>,
    temporal: Option<Arc<str>>,
    temporal_code: Option<u16>,
}

impl RedirectSettings {
    /// The redirect, if there is one: the temporal before the permanent one.
    pub(super) fn redirect(&self) -> Option<Arc<Redirect>> {
        let temporal = self.temporal.as_ref();
        let temporal = temporal.map(|location| (location, self.temporal_code.unwrap_or(302)));
        let permanent = self.permanent.as_ref();
        let permanent = permanent.map(|location| (location, self.permanent_code.unwrap_or(301)));
        let (location, code) = temporal.or(permanent)?;
        Some(Arc::new(Redirect {
            location: Arc::clone(location),
            code,
        }))
    }
}

/// Source: ingress-nginx, annotation `permanent-redirect`.
pub(super) fn permanent(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.redirect.permanent = Some(url(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `permanent-redirect-code`: 301 for what is out of range.
pub(super) fn permanent_code(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.redirect.permanent_code = Some(code(value, 308)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `temporal-redirect`.
pub(super) fn temporal(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.redirect.temporal = Some(url(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `temporal-redirect-code`: 302 for what is out of range, which
/// 308 is.
pub(super) fn temporal_code(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.redirect.temporal_code = Some(code(value, 307)?);
    Ok(())
}

fn code(value: &str, max: u16) -> Result<u16, String> {
    let code = value.trim().parse().ok();
    let code = code.filter(|code| (300..=max).contains(code));
    code.ok_or_else(|| format!("`{value}` is not a status from 300 to {max}; ignored"))
}

/// An absolute URL; nginx's variables are not among its characters.
fn url(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let rest = value
        .strip_prefix("http://")
        .or_else(|| value.strip_prefix("https://"));
    let is_graphic = value.bytes().all(|byte| byte.is_ascii_graphic());
    let is_url = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    if !is_url || !is_graphic || value.contains(['$', '"', '\\', '<', '>']) {
        return Err(format!(
            "`{value}` is not a URL that begins with http:// or https://; ignored"
        ));
    }
    Ok(value.into())
}
