//! An ACME issuer, as `--acme-issuer` describes it.

use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;
use ingress_core::ir::ChallengeKind;

/// An ACME server and the account at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// What Ingresses name.
    pub name: Arc<str>,
    /// URL of its directory (RFC 8555 §7.1.1).
    pub directory: String,
    /// Contacts of the account, as `mailto:` URLs.
    pub contacts: Vec<String>,
    /// How control over hosts is proven.
    pub challenge: ChallengeKind,
    /// Kind of the keys of certificates.
    pub key: KeyType,
    /// Certificates of authorities that its server is trusted by, in PEM, in place of the system's.
    pub ca_file: Option<PathBuf>,
    /// Identifier of an external account and the file with its key in base64url (RFC 8555 §7.3.4).
    pub external_account: Option<(String, PathBuf)>,
}

/// Kind of the keys of certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyType {
    /// ECDSA on P-256.
    #[default]
    EcdsaP256,
    /// RSA with 2048 bits.
    Rsa2048,
}

impl FromStr for Issuer {
    type Err = String;

    /// Reads `NAME=URL,KEY=VALUE,…`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').ok_or(SYNTAX)?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > 63 || !name.bytes().all(is_plain) {
            return Err(format!(
                "`{name}` is not a name: letters, digits, `-`, `_` and `.`, at most 63"
            ));
        }
        let mut parts = rest.split(',');
        let directory = parts.next().unwrap_or_default();
        let url: Uri = directory
            .parse()
            .map_err(|error| format!("`{directory}` is not a URL: {error}"))?;
        if url.scheme_str() != Some("https") || url.host().is_none() {
            return Err(format!("`{directory}` is not a URL with `https:`"));
        }
        let mut issuer = Self {
            name: name.into(),
            directory: directory.to_owned(),
            contacts: Vec::new(),
            challenge: ChallengeKind::default(),
            key: KeyType::default(),
            ca_file: None,
            external_account: None,
        };
        let mut are_terms_agreed = false;
        let (mut key_id, mut key_file) = (None, None);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or(SYNTAX)?;
            match (key, value) {
                (_, "") => return Err(format!("`{key}` has no value")),
                ("terms", "agreed") => are_terms_agreed = true,
                ("contact", address) if address.contains(':') => {
                    issuer.contacts.push(address.to_owned());
                }
                ("contact", address) => issuer.contacts.push(format!("mailto:{address}")),
                ("challenge", kind) => {
                    issuer.challenge = ChallengeKind::parse(kind)
                        .ok_or_else(|| format!("`{kind}` is not http-01 or tls-alpn-01"))?;
                }
                ("key", "ecdsa-p256") => issuer.key = KeyType::EcdsaP256,
                ("key", "rsa-2048") => issuer.key = KeyType::Rsa2048,
                ("ca-file", path) => issuer.ca_file = Some(path.into()),
                ("eab-key-id", id) => key_id = Some(id.to_owned()),
                ("eab-key-file", path) => key_file = Some(PathBuf::from(path)),
                ("terms" | "key", value) => {
                    return Err(format!("`{value}` is not a value of `{key}`"));
                }
                (key, _) => return Err(format!("`{key}` is not known; {SYNTAX}")),
            }
        }
        if !are_terms_agreed {
            return Err(
                "the issuer's terms of service have to be agreed to, by `terms=agreed`".to_owned(),
            );
        }
        issuer.external_account = match (key_id, key_file) {
            (None, None) => None,
            (Some(id), Some(file)) => Some((id, file)),
            _ => return Err("`eab-key-id` and `eab-key-file` go together".to_owned()),
        };
        Ok(issuer)
    }
}

const SYNTAX: &str = "expected NAME=URL,terms=agreed[,contact=ADDRESS][,challenge=http-01|tls-alpn-01]\
                      [,key=ecdsa-p256|rsa-2048][,ca-file=FILE][,eab-key-id=ID,eab-key-file=FILE]";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issuer_is_read_from_a_flag() {
        let text = "le=https://acme.test/dir,terms=agreed,contact=ops@a.test,challenge=tls-alpn-01,\
                    key=rsa-2048,ca-file=/ca.pem,eab-key-id=kid,eab-key-file=/key";
        let issuer: Issuer = text.parse().unwrap();
        let expected = Issuer {
            name: "le".into(),
            directory: "https://acme.test/dir".to_owned(),
            contacts: vec!["mailto:ops@a.test".to_owned()],
            challenge: ChallengeKind::TlsAlpn01,
            key: KeyType::Rsa2048,
            ca_file: Some("/ca.pem".into()),
            external_account: Some(("kid".to_owned(), "/key".into())),
        };
        assert_eq!(issuer, expected);
    }

    #[test]
    fn terms_have_to_be_agreed_to_and_everything_else_has_to_be_known() {
        for wrong in [
            "",
            "le",
            "=https://a.test/dir,terms=agreed",
            "le=https://a.test/dir",
            "le=http://a.test/dir,terms=agreed",
            "le=https://a.test/dir,terms=yes",
            "le=https://a.test/dir,terms=agreed,challenge=dns-01",
            "le=https://a.test/dir,terms=agreed,key=dsa",
            "le=https://a.test/dir,terms=agreed,eab-key-id=x",
            "le=https://a.test/dir,terms=agreed,contact=",
            "le=https://a.test/dir,terms=agreed,colour=red",
            "l e=https://a.test/dir,terms=agreed",
        ] {
            assert!(wrong.parse::<Issuer>().is_err(), "{wrong}");
        }
    }
}
