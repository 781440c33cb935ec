//! Canaries, by ingress-nginx's names: `canary` and `canary-*`.

use std::sync::Arc;

use http::HeaderName;

use super::{Settings, boolean};
use crate::ir::{Canary, CanaryHeader, CanaryPattern, CanaryValue};

/// The settings for canaries, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CanarySettings {
    is_on: bool,
    header: Option<Arc<str>>,
    header_value: Option<Arc<str>>,
    header_pattern: Option<CanaryPattern>,
    cookie: Option<Arc<str>>,
    weight: u32,
    total: Option<u32>,
    has_own_sessions: bool,
}

impl CanarySettings {
    /// The pieces together, if the Ingress is a canary.
    pub(super) fn canary(&self) -> Option<Arc<Canary>> {
        if !self.is_on {
            return None;
        }
        let value = match (&self.header_value, &self.header_pattern) {
            (Some(value), _) => CanaryValue::Equal(Arc::clone(value)),
            (None, Some(pattern)) => CanaryValue::Pattern(pattern.clone()),
            (None, None) => CanaryValue::Switch,
        };
        let header = self.header.clone().map(|name| CanaryHeader { name, value });
        Some(Arc::new(Canary {
            header,
            cookie: self.cookie.clone(),
            weight: self.weight,
            total: self.total.unwrap_or(100).max(100),
            has_own_sessions: self.has_own_sessions,
        }))
    }
}

/// Source: ingress-nginx, annotation `canary`.
pub(super) fn enable(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.canary.is_on = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-by-header`.
pub(super) fn by_header(value: &str, settings: &mut Settings) -> Result<(), String> {
    let name = HeaderName::from_bytes(value.trim().as_bytes());
    let name = name.map_err(|_| format!("`{value}` is not the name of a field; ignored"))?;
    settings.canary.header = Some(name.as_str().into());
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-by-header-value`.
pub(super) fn by_header_value(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    if value.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(format!("`{value}` has a control character; ignored"));
    }
    settings.canary.header_value = (!value.is_empty()).then(|| value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-by-header-pattern`.
pub(super) fn by_header_pattern(value: &str, settings: &mut Settings) -> Result<(), String> {
    let pattern = CanaryPattern::new(value.trim());
    let pattern = pattern.map_err(|error| format!("`{value}`: {error}; ignored"))?;
    settings.canary.header_pattern = Some(pattern);
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-by-cookie`.
pub(super) fn by_cookie(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b";,=\"".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not the name of a cookie; ignored"));
    }
    settings.canary.cookie = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-weight`.
pub(super) fn weight(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.canary.weight = number(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `canary-weight-total`; less than 100 counts as 100.
pub(super) fn weight_total(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.canary.total = Some(number(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `affinity-canary-behavior`.
pub(super) fn sessions(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.canary.has_own_sessions = match value.trim() {
        "sticky" | "" => false,
        "legacy" => true,
        _ => return Err(format!("`{value}` is not one of sticky, legacy; ignored")),
    };
    Ok(())
}

fn number(value: &str) -> Result<u32, String> {
    let number = value.trim().parse();
    number.map_err(|_| format!("`{value}` is not a number; ignored"))
}
