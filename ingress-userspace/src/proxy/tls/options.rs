//! What TLS towards clients may be: versions, cipher suites and keys of tickets.

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{SupportedCipherSuite, SupportedProtocolVersion, version};
use thiserror::Error;

use super::tickets::TicketKeys;

/// What TLS towards clients may be.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// The oldest version.
    pub min_version: TlsVersion,
    /// Cipher suites; `None`: all that are good.
    pub cipher_suites: Option<CipherSuites>,
    /// How sessions are resumed.
    pub tickets: Tickets,
}

/// How sessions are resumed, which is by stateless tickets or not at all.
#[derive(Clone, Debug, Default)]
pub enum Tickets {
    /// By keys that this process makes for itself, and changes every six hours.
    #[default]
    Own,
    /// By keys that others may have too.
    Shared(Arc<TicketKeys>),
    /// Each connection has a full handshake.
    Off,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

/// Cipher suites in order of preference.
#[derive(Clone, Debug, PartialEq)]
pub struct CipherSuites(Vec<SupportedCipherSuite>);

/// Why a list names no cipher suites.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CipherError {
    /// A name that means nothing to us.
    #[error("unknown cipher suite `{0}`; supported are {known}", known = known())]
    Unknown(String),
    /// Nothing that could be used.
    #[error("no supported cipher suite is named; supported are {known}", known = known())]
    Empty,
}

impl CipherSuites {
    /// Reads names as OpenSSL or IANA have them, separated by `:` or `,`.
    ///
    /// As with nginx, naming suites of TLS 1.2 says nothing about those of TLS 1.3, which stay.
    /// Suites with finite-field Diffie-Hellman are in many lists, and left out.
    pub fn parse(text: &str) -> Result<Self, CipherError> {
        let all = aws_lc_rs::default_provider().cipher_suites;
        let mut suites = Vec::new();
        let names = text.split([':', ',']).map(str::trim);
        for name in names.filter(|name| !name.is_empty() && !name.starts_with("DHE-")) {
            let found = all.iter().find(|suite| is_named(suite, name));
            let found = found.ok_or_else(|| CipherError::Unknown(name.to_owned()))?;
            if !suites.contains(found) {
                suites.push(*found);
            }
        }
        if suites.is_empty() {
            return Err(CipherError::Empty);
        }
        if !suites.iter().any(|suite| suite.tls13().is_some()) {
            suites.extend(all.iter().filter(|suite| suite.tls13().is_some()));
        }
        Ok(Self(suites))
    }
}

impl TlsOptions {
    pub(crate) fn provider(&self) -> Arc<CryptoProvider> {
        let mut provider = aws_lc_rs::default_provider();
        if let Some(CipherSuites(suites)) = &self.cipher_suites {
            provider.cipher_suites.clone_from(suites);
        }
        Arc::new(provider)
    }

    pub(crate) fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        match self.min_version {
            TlsVersion::Tls12 => vec![&version::TLS13, &version::TLS12],
            TlsVersion::Tls13 => vec![&version::TLS13],
        }
    }
}

fn is_named(suite: &SupportedCipherSuite, name: &str) -> bool {
    let iana = iana_name(suite);
    name == iana || name == openssl_name(&iana)
}

/// rustls calls suites of TLS 1.3 `TLS13_…`, IANA `TLS_…`.
fn iana_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

/// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256` is `ECDHE-RSA-AES128-GCM-SHA256` to OpenSSL; suites of
/// TLS 1.3 have one name only.
fn openssl_name(iana: &str) -> String {
    let Some(rest) = iana.strip_prefix("TLS_ECDHE_") else {
        return iana.to_owned();
    };
    let name = format!("ECDHE-{rest}").replace("_WITH_", "-");
    let name = name.replace("CHACHA20_POLY1305_SHA256", "CHACHA20-POLY1305");
    name.replace("AES_", "AES").replace('_', "-")
}

fn known() -> String {
    let all = aws_lc_rs::default_provider().cipher_suites;
    let names = all.iter().map(|suite| openssl_name(&iana_name(suite)));
    names.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let CipherSuites(suites) = CipherSuites::parse(text).unwrap();
        suites.iter().map(iana_name).collect()
    }

    #[test]
    fn the_usual_list_of_ingress_nginx_is_understood() {
        let list = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:\
                    ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:\
                    ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:\
                    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-GCM-SHA256";
        assert_eq!(names(list).len(), 9);
        assert_eq!(names(list)[0], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256");
    }

    #[test]
    fn suites_of_tls_1_3_stay_unless_some_are_named() {
        let one = names("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256");
        assert_eq!(one.len(), 4);
        assert_eq!(names("TLS_AES_128_GCM_SHA256"), ["TLS_AES_128_GCM_SHA256"]);
    }

    #[test]
    fn unknown_and_empty_lists_are_errors() {
        let unknown = CipherError::Unknown("RC4-MD5".to_owned());
        assert_eq!(CipherSuites::parse("RC4-MD5"), Err(unknown));
        let none = CipherSuites::parse("DHE-RSA-AES128-GCM-SHA256");
        assert_eq!(none, Err(CipherError::Empty));
        assert!(
            known().contains("ECDHE-RSA-CHACHA20-POLY1305"),
            "{}",
            known()
        );
    }
}
