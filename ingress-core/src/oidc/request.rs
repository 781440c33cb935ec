//! What the proxy asks a provider for, and how it answers: URLs, forms and the answer of the token endpoint.

use serde_json::Value;

use super::provider::{ClientAuthentication, Provider};
use crate::filter::escape;
use crate::ir::{OidcAuth, OidcClient};

/// The parameters of a login.
#[derive(Clone, Copy, Debug)]
pub struct Authorization<'a> {
    /// What is asked for.
    pub auth: &'a OidcAuth,
    /// Who asks.
    pub client: &'a OidcClient,
    /// Where the user comes back to.
    pub redirect_uri: &'a str,
    /// Ties the callback to the browser.
    pub state: &'a str,
    /// Ties the ID token to the login.
    pub nonce: &'a str,
    /// SHA-256 of the verifier, in base64url (RFC 7636 §4.2).
    pub code_challenge: &'a str,
}

/// Where the browser is sent to log in (OpenID Connect Core 1.0 §3.1.2.1, RFC 7636 §4.3).
pub fn authorization_url(provider: &Provider, login: Authorization<'_>) -> Vec<u8> {
    let parameters = [
        ("response_type", "code"),
        ("client_id", &*login.client.id),
        ("redirect_uri", login.redirect_uri),
        ("scope", &*login.auth.scopes),
        ("state", login.state),
        ("nonce", login.nonce),
        ("code_challenge", login.code_challenge),
        ("code_challenge_method", "S256"),
    ];
    with_query(&provider.authorization_endpoint, &parameters)
}

/// Where the browser is sent to log out (OpenID Connect RP-Initiated Logout 1.0 §2); `None`: the provider has no
/// such place. No parameter is of the request, so that nobody can make it lead elsewhere.
pub fn logout_url(provider: &Provider, auth: &OidcAuth, client: &OidcClient) -> Option<Vec<u8>> {
    let endpoint = provider.end_session_endpoint.as_deref()?;
    let mut parameters = vec![("client_id", &*client.id)];
    let url = auth.logout_url.as_deref();
    parameters.extend(url.map(|url| ("post_logout_redirect_uri", url)));
    Some(with_query(endpoint, &parameters))
}

/// The parameters of a request to the token endpoint.
#[derive(Clone, Copy, Debug)]
pub struct TokenRequest<'a> {
    /// Who asks.
    pub client: &'a OidcClient,
    /// The code of the callback.
    pub code: &'a str,
    /// As it was when the browser was sent to log in.
    pub redirect_uri: &'a str,
    /// Proves that the code was asked for by who exchanges it.
    pub verifier: &'a str,
}

/// The body of a request to the token endpoint (RFC 6749 §4.1.3, RFC 7636 §4.5).
pub fn token_form(authentication: ClientAuthentication, request: TokenRequest<'_>) -> Vec<u8> {
    let mut parameters = vec![
        ("grant_type", "authorization_code"),
        ("code", request.code),
        ("redirect_uri", request.redirect_uri),
        ("code_verifier", request.verifier),
    ];
    if authentication == ClientAuthentication::Post {
        parameters.push(("client_id", &request.client.id));
        parameters.push(("client_secret", &request.client.secret));
    }
    form(&parameters)
}

/// The ID token in an answer of the token endpoint.
pub fn id_token(body: &[u8]) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    answer["id_token"].as_str().map(str::to_owned)
}

/// Whether the token endpoint says that the code is not, or no longer, good (RFC 6749 §5.2).
pub fn is_code_refused(body: &[u8]) -> bool {
    let answer: Option<Value> = serde_json::from_slice(body).ok();
    answer.is_some_and(|answer| answer["error"] == "invalid_grant")
}

fn with_query(url: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut all = url.as_bytes().to_vec();
    all.push(if url.contains('?') { b'&' } else { b'?' });
    all.extend_from_slice(&form(parameters));
    all
}

fn form(parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (name, value) in parameters {
        if !text.is_empty() {
            text.push(b'&');
        }
        text.extend_from_slice(name.as_bytes());
        text.push(b'=');
        escape(value.as_bytes(), &mut text);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(authorization: &str, logout: Option<&str>) -> Provider {
        Provider {
            issuer: "https://id.test".into(),
            authorization_endpoint: authorization.into(),
            token_endpoint: "https://id.test/token".into(),
            jwks_uri: "https://id.test/keys".into(),
            end_session_endpoint: logout.map(Into::into),
            authentication: ClientAuthentication::Basic,
            names_itself: false,
        }
    }

    fn client() -> OidcClient {
        OidcClient {
            id: "a b".into(),
            secret: "s&t".into(),
            cookie_secret: [0; 32].into(),
        }
    }

    fn auth(logout_url: Option<&str>) -> OidcAuth {
        OidcAuth {
            issuer: "https://id.test".into(),
            client: None,
            scopes: "openid email".into(),
            callback_path: "/cb".into(),
            logout_path: "/lo".into(),
            logout_url: logout_url.map(Into::into),
            groups: [].into(),
            groups_claim: "groups".into(),
            fields: [].into(),
            session_lifetime: 60,
        }
    }

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_login_is_asked_for_with_state_nonce_and_challenge() {
        let (auth, client) = (auth(None), client());
        let login = Authorization {
            auth: &auth,
            client: &client,
            redirect_uri: "https://a.test/cb",
            state: "S",
            nonce: "N",
            code_challenge: "C",
        };
        let rest = "response_type=code&client_id=a%20b&redirect_uri=https%3A%2F%2Fa.test%2Fcb\
                    &scope=openid%20email&state=S&nonce=N&code_challenge=C&code_challenge_method=S256";
        let url = authorization_url(&provider("https://id.test/auth", None), login);
        assert_eq!(text(url), format!("https://id.test/auth?{rest}"));
        let url = authorization_url(&provider("https://id.test/auth?p=1", None), login);
        assert_eq!(text(url), format!("https://id.test/auth?p=1&{rest}"));
    }

    #[test]
    fn a_secret_is_in_the_form_only_if_the_provider_wants_it_there() {
        let client = client();
        let request = TokenRequest {
            client: &client,
            code: "c/d",
            redirect_uri: "https://a.test/cb",
            verifier: "V",
        };
        let basic = "grant_type=authorization_code&code=c%2Fd&redirect_uri=https%3A%2F%2Fa.test%2Fcb\
                     &code_verifier=V";
        assert_eq!(
            text(token_form(ClientAuthentication::Basic, request)),
            basic
        );
        assert_eq!(
            text(token_form(ClientAuthentication::Post, request)),
            format!("{basic}&client_id=a%20b&client_secret=s%26t")
        );
    }

    #[test]
    fn users_log_out_where_the_provider_says() {
        let provider = |logout| provider("https://id.test/auth", logout);
        assert_eq!(logout_url(&provider(None), &auth(None), &client()), None);
        let end = provider(Some("https://id.test/end"));
        let url = logout_url(&end, &auth(None), &client()).unwrap();
        assert_eq!(text(url), "https://id.test/end?client_id=a%20b");
        let url = logout_url(&end, &auth(Some("https://a.test/")), &client()).unwrap();
        let expected = "https://id.test/end?client_id=a%20b\
                        &post_logout_redirect_uri=https%3A%2F%2Fa.test%2F";
        assert_eq!(text(url), expected);
    }

    #[test]
    fn answers_of_the_token_endpoint_are_read_or_left_alone() {
        assert_eq!(
            id_token(br#"{"id_token": "a.b.c"}"#).as_deref(),
            Some("a.b.c")
        );
        for other in ["", "[]", "{}", r#"{"id_token": 7}"#] {
            assert_eq!(id_token(other.as_bytes()), None, "{other}");
        }
        assert!(is_code_refused(br#"{"error": "invalid_grant"}"#));
        assert!(!is_code_refused(br#"{"error": "invalid_client"}"#));
        assert!(!is_code_refused(b"<html>"));
    }
}
