//! What a provider says of itself: its discovery document (OpenID Connect Discovery 1.0 §3 and §4).

use std::sync::Arc;

use http::Uri;
use http::uri::Scheme;
use serde::Deserialize;
use thiserror::Error;

/// What the proxy needs to know of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provider {
    /// What its tokens have as `iss`.
    pub issuer: Box<str>,
    /// Where users log in.
    pub authorization_endpoint: Box<str>,
    /// Where codes are exchanged for tokens.
    pub token_endpoint: Box<str>,
    /// Where the keys are that its tokens are signed by.
    pub jwks_uri: Arc<str>,
    /// Where users log out.
    pub end_session_endpoint: Option<Box<str>>,
    /// How the proxy proves to the token endpoint who it is.
    pub authentication: ClientAuthentication,
    /// Whether its callbacks name it (RFC 9207).
    pub names_itself: bool,
}

/// How a client proves to the token endpoint who it is (OpenID Connect Core 1.0 §9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// `client_secret_basic`.
    Basic,
    /// `client_secret_post`.
    Post,
}

/// Why a document does not describe a provider.
#[derive(Debug, Error)]
pub enum ProviderError {
    /// It is not JSON, or lacks a member.
    #[error("document is not a provider's")]
    Syntax(#[from] serde_json::Error),
    /// A member is not a URL, or not one of `https` although the issuer is.
    #[error("`{0}` is not a usable URL")]
    Url(&'static str),
}

/// Where the document of an issuer is.
pub fn discovery_url(issuer: &str) -> String {
    let issuer = issuer.strip_suffix('/').unwrap_or(issuer);
    format!("{issuer}/.well-known/openid-configuration")
}

impl Provider {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// [`ProviderError`] for a document without one of the endpoints, or with one of clear text although
    /// the issuer has TLS: the secret of the client would go there.
    pub fn parse(document: &[u8]) -> Result<Self, ProviderError> {
        let document: Document = serde_json::from_slice(document)?;
        let is_secure = scheme(&document.issuer) == Some(Scheme::HTTPS);
        let check = |name: &'static str, url: &str| {
            let is_usable = match scheme(url) {
                Some(scheme) => scheme == Scheme::HTTPS || (scheme == Scheme::HTTP && !is_secure),
                None => false,
            };
            let is_usable = is_usable && !url.contains('#');
            is_usable.then_some(()).ok_or(ProviderError::Url(name))
        };
        check("issuer", &document.issuer)?;
        check("authorization_endpoint", &document.authorization_endpoint)?;
        check("token_endpoint", &document.token_endpoint)?;
        check("jwks_uri", &document.jwks_uri)?;
        if let Some(url) = &document.end_session_endpoint {
            check("end_session_endpoint", url)?;
        }
        let methods = document.token_endpoint_auth_methods_supported;
        let takes = |method: &str| methods.iter().flatten().any(|one| one == method);
        Ok(Self {
            issuer: document.issuer,
            authorization_endpoint: document.authorization_endpoint,
            token_endpoint: document.token_endpoint,
            jwks_uri: document.jwks_uri,
            end_session_endpoint: document.end_session_endpoint,
            authentication: if takes("client_secret_post") && !takes("client_secret_basic") {
                ClientAuthentication::Post
            } else {
                ClientAuthentication::Basic
            },
            names_itself: document.authorization_response_iss_parameter_supported,
        })
    }
}

fn scheme(url: &str) -> Option<Scheme> {
    let url = Uri::try_from(url).ok()?;
    url.host().filter(|host| !host.is_empty())?;
    url.scheme().cloned()
}

/// The members of a document that are read.
#[derive(Deserialize)]
struct Document {
    issuer: Box<str>,
    authorization_endpoint: Box<str>,
    token_endpoint: Box<str>,
    jwks_uri: Arc<str>,
    #[serde(default)]
    end_session_endpoint: Option<Box<str>>,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn document() -> Value {
        json!({
            "issuer": "https://id.test/realm",
            "authorization_endpoint": "https://id.test/realm/auth?x=1",
            "token_endpoint": "https://id.test/realm/token",
            "jwks_uri": "https://keys.test/realm",
        })
    }

    fn parse(document: &Value) -> Result<Provider, ProviderError> {
        Provider::parse(document.to_string().as_bytes())
    }

    #[test]
    fn a_document_names_the_endpoints_of_a_provider() {
        let provider = parse(&document()).unwrap();
        assert_eq!(&*provider.jwks_uri, "https://keys.test/realm");
        assert_eq!(provider.end_session_endpoint, None);
        assert_eq!(provider.authentication, ClientAuthentication::Basic);
        assert!(!provider.names_itself);
        let mut more = document();
        more["end_session_endpoint"] = "https://id.test/realm/logout".into();
        more["authorization_response_iss_parameter_supported"] = true.into();
        more["token_endpoint_auth_methods_supported"] =
            json!(["private_key_jwt", "client_secret_post"]);
        let provider = parse(&more).unwrap();
        assert!(provider.end_session_endpoint.is_some() && provider.names_itself);
        assert_eq!(provider.authentication, ClientAuthentication::Post);
    }

    #[test]
    fn documents_without_usable_urls_are_refused() {
        for (member, value) in [
            ("issuer", json!("id.test")),
            ("issuer", Value::Null),
            ("authorization_endpoint", json!("javascript:alert(1)")),
            ("authorization_endpoint", json!("https://id.test/#x")),
            ("token_endpoint", json!("http://id.test/realm/token")),
            ("token_endpoint", json!(7)),
            ("jwks_uri", json!("http://keys.test/realm")),
            ("end_session_endpoint", json!("/logout")),
        ] {
            let mut wrong = document();
            wrong[member] = value.clone();
            assert!(parse(&wrong).is_err(), "{member}: {value}");
        }
        for text in ["", "[]", "{}", "<html>"] {
            assert!(Provider::parse(text.as_bytes()).is_err(), "{text}");
        }
        let mut clear = document();
        for member in ["issuer", "token_endpoint"] {
            clear[member] = "http://127.0.0.1:5556/x".into();
        }
        assert!(parse(&clear).is_ok(), "an issuer without TLS");
    }

    #[test]
    fn the_document_is_below_the_issuer() {
        let expected = "https://id.test/a/.well-known/openid-configuration";
        assert_eq!(discovery_url("https://id.test/a"), expected);
        assert_eq!(discovery_url("https://id.test/a/"), expected);
    }
}
