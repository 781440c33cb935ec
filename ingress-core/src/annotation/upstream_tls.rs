//! TLS to endpoints, by ingress-nginx's names: `proxy-ssl-*`.
//!
//! As there, nothing of this has an effect without `proxy-ssl-secret`.

use std::sync::Arc;

use super::Settings;

/// The settings for TLS to endpoints, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UpstreamTlsSettings {
    /// `namespace/name`.
    pub(crate) secret: Option<Arc<str>>,
    pub(crate) verifies: bool,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) sends_name: bool,
}

/// Source: ingress-nginx, annotation `proxy-ssl-secret`.
pub(super) fn secret(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    settings.upstream_tls.secret = Some(value.into());
    let parts = value.split('/').count();
    if parts > 2 || value.split('/').any(str::is_empty) {
        return Err(format!("`{value}` is not `namespace/name` of a Secret"));
    }
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-ssl-verify`.
pub(super) fn verify(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.upstream_tls.verifies = on_or_off(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-ssl-verify-depth`. Chains of any length that lead to an
/// authority are taken.
pub(super) fn verify_depth(value: &str, _: &mut Settings) -> Result<(), String> {
    let depth = value.trim().parse::<u16>();
    depth.map_err(|_| format!("`{value}` is not a number"))?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-ssl-name`.
pub(super) fn name(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not the name of a host"));
    }
    settings.upstream_tls.name = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-ssl-server-name`.
pub(super) fn server_name(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.upstream_tls.sends_name = on_or_off(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `proxy-ssl-protocols`: TLS 1.2 and 1.3 are spoken.
pub(super) fn protocols(value: &str, _: &mut Settings) -> Result<(), String> {
    let known = ["TLSv1.2", "TLSv1.3"];
    let mut words = value.split_whitespace();
    if words.clone().any(|word| known.contains(&word)) {
        return Ok(());
    }
    let word = words.next().unwrap_or_default();
    Err(format!("`{word}` is not one of TLSv1.2, TLSv1.3"))
}

fn on_or_off(value: &str) -> Result<bool, String> {
    match value.trim() {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("`{value}` is not one of on, off")),
    }
}
