//! What concerns hosts as a whole: hosts beside those of the rules, by ingress-nginx's names
//! `server-alias` and `from-to-www-redirect`, and the issuer of their certificates.

use std::sync::Arc;

use super::{Settings, boolean};
use crate::ir::HostPattern;

/// Source: ingress-nginx, annotation `server-alias`: names with commas between them. Expressions,
/// which begin with `~`, are refused.
pub(super) fn alias(value: &str, settings: &mut Settings) -> Result<(), String> {
    let names = value.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let hosts: Result<_, String> = names
        .map(|name| HostPattern::parse(name).map_err(|error| format!("`{name}`: {error}; ignored")))
        .collect();
    settings.aliases = hosts?;
    Ok(())
}

/// Source: ingress-nginx, annotation `from-to-www-redirect`.
pub(super) fn from_to_www(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.redirects_www = boolean(value)?;
    Ok(())
}

/// The name of the ACME issuer that certificates are ordered from.
pub(super) fn acme(value: &str, settings: &mut Settings) -> Result<(), String> {
    let name = value.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > ISSUER_BYTES_MAX || !name.bytes().all(is_plain) {
        return Err(format!(
            "`{name}` is not the name of an ACME issuer; ignored"
        ));
    }
    settings.acme_issuer = Some(Arc::from(name));
    Ok(())
}

const ISSUER_BYTES_MAX: usize = 63;
