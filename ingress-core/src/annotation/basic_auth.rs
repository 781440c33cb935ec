//! Users with passwords, by ingress-nginx's names: `auth-type`, `auth-secret`, `auth-secret-type`,
//! `auth-realm`, and `satisfy`.
//!
//! Invariant: an unreadable setting refuses every request.

use std::sync::Arc;

use super::Settings;
use crate::ir::Satisfy;

/// The settings for HTTP authentication, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BasicAuthSettings {
    pub(crate) is_on: bool,
    /// `namespace/name`, or a name in the Ingress's namespace.
    pub(crate) secret: Option<Arc<str>>,
    pub(crate) layout: SecretLayout,
    pub(crate) realm: Option<Arc<str>>,
    pub(crate) satisfy: Satisfy,
}

/// How a Secret holds users.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SecretLayout {
    /// The key `auth` is an htpasswd file.
    #[default]
    File,
    /// Each key is a user, its value the hash.
    Map,
}

/// Source: ingress-nginx, annotation `auth-type`; `digest` needs the passwords themselves.
pub(super) fn auth_type(value: &str, settings: &mut Settings) -> Result<(), String> {
    match value.trim() {
        "basic" => settings.basic_auth.is_on = true,
        "" => {}
        "digest" => return Err("`digest` is not supported, use `basic` over TLS".to_owned()),
        _ => return Err(format!("`{value}` is not `basic`")),
    }
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-secret`.
pub(super) fn secret(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    settings.basic_auth.secret = Some(value.into());
    let parts = value.split('/').count();
    if parts > 2 || value.split('/').any(str::is_empty) {
        return Err(format!("`{value}` is not the name of a Secret"));
    }
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-secret-type`.
pub(super) fn secret_type(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.basic_auth.layout = match value.trim() {
        "auth-file" => SecretLayout::File,
        "auth-map" => SecretLayout::Map,
        _ => return Err(format!("`{value}` is not one of auth-file, auth-map")),
    };
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-realm`.
pub(super) fn realm(value: &str, settings: &mut Settings) -> Result<(), String> {
    let is_part = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    if !value.bytes().all(is_part) {
        return Err(format!(
            "`{value}` has characters that a realm may not have"
        ));
    }
    settings.basic_auth.realm = Some(value.trim().into());
    Ok(())
}

/// Source: ingress-nginx, annotation `satisfy`.
pub(super) fn satisfy(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.basic_auth.satisfy = match value.trim() {
        "any" => Satisfy::Any,
        "all" | "" => Satisfy::All,
        _ => return Err(format!("`{value}` is not one of any, all")),
    };
    Ok(())
}
