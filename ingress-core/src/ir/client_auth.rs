//! Client certificates: what a host wants to see of its clients (mutual TLS).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use thiserror::Error;

use super::ObjectRef;

/// What the clients of one host have to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Who gets in.
    pub mode: VerifyMode,
    /// How many intermediate certificates may stand between a client's and one of the authorities:
    /// `ssl_verify_depth` of nginx.
    pub depth: u8,
    /// Who vouches for clients. `None` if the Secret can't be had: the host refuses everybody.
    pub authorities: Option<Arc<Authorities>>,
    /// Whose certificates are taken; `None`: anybody's that authorities vouch for.
    pub common_name: Option<CommonName>,
    /// Whether endpoints get the client's certificate itself.
    pub passes_certificate: bool,
    /// Where clients are sent that don't get in: an absolute URL.
    pub error_page: Option<Arc<str>>,
}

/// Which common names of clients get in: `auth-tls-match-cn` of ingress-nginx.
#[derive(Clone, Debug)]
pub struct CommonName(Regex);

impl CommonName {
    /// Whether a client of this name gets in.
    ///
    /// `CN=` and the name have to match from their beginning: ingress-nginx looks for the expression
    /// anywhere in the subject, where another attribute may say what it likes.
    pub fn matches(&self, name: &str) -> bool {
        self.0.is_match(&format!("{PREFIX}{name}"))
    }
}

impl PartialEq for CommonName {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Eq for CommonName {}

/// A text is no pattern of common names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("is not a regular expression that begins with `CN=`")]
pub struct CommonNameError;

impl FromStr for CommonName {
    type Err = CommonNameError;

    /// Reads `CN=` and an expression.
    fn from_str(text: &str) -> Result<Self, CommonNameError> {
        let build = |text: &str| {
            let built = RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
            built.map_err(|_| CommonNameError)
        };
        if !text.trim_start_matches('^').starts_with(PREFIX) {
            return Err(CommonNameError);
        }
        // By itself first: it must not end the group.
        build(text)?;
        build(&format!("^(?:{text})")).map(Self)
    }
}

const PREFIX: &str = "CN=";
/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// Who gets in: `auth-tls-verify-client` of ingress-nginx.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VerifyMode {
    /// `on`: clients with a certificate that an authority vouches for.
    #[default]
    Required,
    /// `optional`: those without one too.
    Optional,
    /// `optional_no_ca`: those with one that nobody vouches for too; the endpoint is told.
    OptionalNoCa,
}

/// Certificates of authorities and what they have revoked, in PEM, not yet parsed: the TLS library
/// is the one judge of their contents.
#[derive(Clone, PartialEq, Eq)]
pub struct Authorities {
    /// The Secret they came from.
    pub secret: ObjectRef,
    /// `ca.crt`.
    pub ca_pem: Vec<u8>,
    /// `ca.crl`, if there is one.
    pub crl_pem: Option<Vec<u8>>,
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authorities")
            .field("secret", &self.secret)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_matched_where_the_name_is() {
        for (pattern, name, matches) in [
            ("CN=ada", "ada", true),
            ("CN=ada", "adam", true),
            ("CN=ada$", "adam", false),
            ("^CN=(ada|bob)$", "bob", true),
            ("CN=ada", "x CN=bob", false),
            ("CN=ada", "x CN=ada", false),
            ("CN=bob|CN=ada", "ada", true),
        ] {
            let parsed: CommonName = pattern.parse().unwrap();
            assert_eq!(parsed.matches(name), matches, "{pattern} {name}");
        }
        for wrong in [
            "",
            "ada",
            "O=ada",
            "CN=(",
            "CN=a)|(",
            "CN=a(?=b)",
            "CN=(a{1000}){1000}",
        ] {
            assert!(wrong.parse::<CommonName>().is_err(), "{wrong}");
        }
    }
}
