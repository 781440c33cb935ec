//! Hosts beside those of the rules, by ingress-nginx's names: `server-alias` and
//! `from-to-www-redirect`.

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
