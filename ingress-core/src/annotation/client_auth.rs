//! Settings of client certificates, by ingress-nginx's names: `auth-tls-*`.
//!
//! Invariant: who asks for client certificates and makes a mistake about it shuts people out and
//! never lets them in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PREFIXES, Settings, boolean};
use crate::ir::{CommonName, VerifyMode};

/// The settings for client certificates, as the annotations give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientAuthSettings {
    /// The Secret with the authorities, if certificates are asked for.
    pub secret: Option<SecretName>,
    /// Who gets in; `None`: everybody, and nobody is asked.
    pub mode: Mode,
    /// How many intermediate certificates there may be.
    pub depth: Option<u8>,
    /// Whose certificates are taken.
    pub common_name: Option<CommonName>,
    /// Whether endpoints get the certificate itself.
    pub passes_certificate: bool,
    /// Where those are sent that don't get in.
    pub error_page: Option<Arc<str>>,
    /// Whether something is asked for that can't be done.
    pub is_unusable: bool,
}

/// The Secret that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretName {
    /// Namespace and name.
    Named(Arc<str>, Arc<str>),
    /// Something that is neither.
    Malformed,
}

/// `auth-tls-verify-client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nobody is asked.
    Off,
    /// Clients are asked.
    Verify(VerifyMode),
}

impl Default for Mode {
    fn default() -> Self {
        Self::Verify(VerifyMode::Required)
    }
}

impl ClientAuthSettings {
    /// How many intermediate certificates there may be: 1, as ingress-nginx has it.
    pub fn depth(&self) -> u8 {
        self.depth.unwrap_or(1)
    }
}

/// The annotation of an Ingress that names the authorities: its key.
pub fn secret_key(annotations: &BTreeMap<String, String>) -> Option<String> {
    let keys = PREFIXES.iter().map(|prefix| format!("{prefix}{SECRET}"));
    keys.into_iter().find(|key| annotations.contains_key(key))
}

/// The Secret that annotations of an Ingress name, as `namespace/name`.
pub fn secret_of(annotations: &BTreeMap<String, String>) -> Option<SecretName> {
    let value = annotations.get(&secret_key(annotations)?)?;
    Some(parse_secret(value))
}

fn parse_secret(value: &str) -> SecretName {
    match value.trim().split_once('/') {
        Some((namespace, name))
            if !namespace.is_empty() && !name.is_empty() && !name.contains('/') =>
        {
            SecretName::Named(namespace.into(), name.into())
        }
        _ => SecretName::Malformed,
    }
}

/// Source: ingress-nginx, annotation `auth-tls-secret`.
pub(super) fn secret(value: &str, settings: &mut Settings) -> Result<(), String> {
    let name = parse_secret(value);
    let is_malformed = name == SecretName::Malformed;
    settings.client_auth.secret = Some(name);
    if is_malformed {
        return Err(format!(
            "`{value}` is not `namespace/name`; its hosts refuse every request"
        ));
    }
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-tls-verify-client`.
pub(super) fn verify_client(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.client_auth.mode = match value.trim() {
        "on" => Mode::Verify(VerifyMode::Required),
        "off" => Mode::Off,
        "optional" => Mode::Verify(VerifyMode::Optional),
        "optional_no_ca" => Mode::Verify(VerifyMode::OptionalNoCa),
        _ => {
            return Err(format!(
                "`{value}` is not one of on, off, optional, optional_no_ca; ignored"
            ));
        }
    };
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-tls-verify-depth`: 0 counts as 1.
pub(super) fn verify_depth(value: &str, settings: &mut Settings) -> Result<(), String> {
    let depth: u8 = value
        .trim()
        .parse()
        .ok()
        .filter(|depth| *depth <= DEPTH_MAX)
        .ok_or_else(|| format!("`{value}` is not a number from 1 to {DEPTH_MAX}; ignored"))?;
    settings.client_auth.depth = Some(depth.max(1));
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-tls-pass-certificate-to-upstream`.
pub(super) fn pass_certificate(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.client_auth.passes_certificate = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-tls-error-page`. A page of the host itself is not
/// taken: whoever may not come in would get something from there.
pub(super) fn error_page(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_url = ["http://", "https://"].iter().any(|scheme| {
        value
            .strip_prefix(scheme)
            .is_some_and(|rest| !rest.is_empty())
    });
    if !is_url || !value.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "`{value}` is not a URL that begins with http:// or https://; ignored"
        ));
    }
    settings.client_auth.error_page = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `auth-tls-match-cn`, which narrows who gets in.
pub(super) fn match_cn(value: &str, settings: &mut Settings) -> Result<(), String> {
    match value.trim().parse() {
        Ok(common_name) => {
            settings.client_auth.common_name = Some(common_name);
            Ok(())
        }
        Err(error) => {
            settings.client_auth.is_unusable = true;
            Err(format!(
                "`{value}` {error}; hosts that ask for client certificates refuse every request"
            ))
        }
    }
}

/// The key of the Secret's name, which only an Ingress can give: it is read for its namespace.
pub(super) const SECRET: &str = "auth-tls-secret";

/// As deep as the TLS library builds paths.
const DEPTH_MAX: u8 = 6;
