//! Redirects from clear text to HTTPS, and HSTS.

use std::sync::Arc;

/// When clear-text requests are redirected to HTTPS.
///
/// Source: ingress-nginx, annotations `ssl-redirect`, `force-ssl-redirect`,
/// `preserve-trailing-slash` and `use-port-in-redirects`, ConfigMap key `http-redirect-code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsRedirect {
    /// Which requests are redirected.
    pub mode: TlsRedirectMode,
    /// Status of the redirect.
    pub code: u16,
    /// Whether a slash at the end of the request target stays.
    pub preserves_trailing_slash: bool,
    /// The port that the redirect names; `None`: none, which is 443.
    pub port: Option<u16>,
}

/// Which clear-text requests are redirected to HTTPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsRedirectMode {
    /// None.
    Never,
    /// Those for hosts that a TLS section names.
    IfHostHasTls,
    /// All.
    Always,
}

impl Default for TlsRedirect {
    fn default() -> Self {
        Self {
            mode: TlsRedirectMode::IfHostHasTls,
            code: 308,
            preserves_trailing_slash: false,
            port: None,
        }
    }
}

impl TlsRedirect {
    /// Whether requests are redirected, for a host that has a TLS section or none.
    pub fn applies(self, host_has_tls: bool) -> bool {
        match self.mode {
            TlsRedirectMode::Never => false,
            TlsRedirectMode::IfHostHasTls => host_has_tls,
            TlsRedirectMode::Always => true,
        }
    }
}

/// What Strict-Transport-Security says (RFC 6797).
///
/// Source: ingress-nginx, ConfigMap keys `hsts`, `hsts-max-age`, `hsts-include-subdomains` and
/// `hsts-preload`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hsts {
    /// The value of the field: visible ASCII.
    pub value: Arc<str>,
}
