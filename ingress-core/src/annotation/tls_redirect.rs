//! Redirects to HTTPS and HSTS, by ingress-nginx's names.

use std::sync::Arc;

use super::{Settings, boolean};
use crate::ir::{Hsts, TlsRedirect, TlsRedirectMode};

/// The settings for redirects to HTTPS and HSTS, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an annotation of its own"
)]
pub(super) struct TlsRedirectSettings {
    is_on: bool,
    is_forced: bool,
    code: u16,
    preserves_trailing_slash: bool,
    /// Where clients reach HTTPS.
    pub(super) https_port: u16,
    names_port: bool,
    hsts: HstsSettings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct HstsSettings {
    is_on: bool,
    max_age: u32,
    includes_subdomains: bool,
    preload: bool,
}

impl Default for TlsRedirectSettings {
    fn default() -> Self {
        Self {
            is_on: true,
            is_forced: false,
            code: 308,
            preserves_trailing_slash: false,
            https_port: 443,
            names_port: false,
            hsts: HstsSettings {
                is_on: true,
                max_age: 31_536_000,
                includes_subdomains: true,
                preload: false,
            },
        }
    }
}

impl TlsRedirectSettings {
    /// The pieces together.
    pub(super) fn redirect(&self) -> TlsRedirect {
        let mode = match (self.is_forced, self.is_on) {
            (true, _) => TlsRedirectMode::Always,
            (false, true) => TlsRedirectMode::IfHostHasTls,
            (false, false) => TlsRedirectMode::Never,
        };
        TlsRedirect {
            mode,
            code: self.code,
            preserves_trailing_slash: self.preserves_trailing_slash,
            port: self.names_port.then_some(self.https_port),
        }
    }

    /// The value of Strict-Transport-Security, if there is to be one.
    pub(super) fn hsts(&self) -> Option<Arc<Hsts>> {
        let HstsSettings {
            is_on,
            max_age,
            includes_subdomains,
            preload,
        } = self.hsts;
        if !is_on {
            return None;
        }
        let mut value = format!("max-age={max_age}");
        if includes_subdomains {
            value.push_str("; includeSubDomains");
        }
        if preload {
            value.push_str("; preload");
        }
        Some(Arc::new(Hsts {
            value: value.into(),
        }))
    }
}

/// Source: ingress-nginx, annotation and ConfigMap key `ssl-redirect`.
pub(super) fn redirect(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.is_on = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation and ConfigMap key `force-ssl-redirect`.
pub(super) fn force(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.is_forced = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `preserve-trailing-slash`.
pub(super) fn preserve_slash(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.preserves_trailing_slash = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `use-port-in-redirects`.
pub(super) fn use_port(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.names_port = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `http-redirect-code`.
pub(super) fn code(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.code = match value.trim() {
        "301" => 301,
        "302" => 302,
        "307" => 307,
        "308" => 308,
        _ => {
            return Err(format!(
                "`{value}` is not one of 301, 302, 307, 308; ignored"
            ));
        }
    };
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `hsts`.
pub(super) fn hsts(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.hsts.is_on = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `hsts-max-age`.
pub(super) fn hsts_max_age(value: &str, settings: &mut Settings) -> Result<(), String> {
    let seconds = value.trim().parse();
    settings.tls_redirect.hsts.max_age =
        seconds.map_err(|_| format!("`{value}` is not a number of seconds; ignored"))?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `hsts-include-subdomains`.
pub(super) fn hsts_subdomains(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.hsts.includes_subdomains = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `hsts-preload`.
pub(super) fn hsts_preload(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.tls_redirect.hsts.preload = boolean(value)?;
    Ok(())
}
