//! Exchanges a code for an ID token, and says whether that is good (OpenID Connect Core 1.0 §3.1.3).

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use ingress_core::filter::escape;
use ingress_core::ir::{JwtAlgorithm, JwtAuth, JwtKeys, OidcAuth, OidcClient};
use ingress_core::oidc::{
    ClientAuthentication, Login, TokenRequest, id_token, is_code_refused, token_form,
};
use serde_json::{Map, Value};

use super::failure::Failure;
use super::{Asked, encode, redirect_uri};
use crate::proxy::request::authenticate::{Checked, token};

/// The claims of the user who has logged in.
pub(super) async fn exchange(
    auth: &OidcAuth,
    asked: &Asked<'_>,
    login: &Login,
    code: &str,
    checked: Checked<'_>,
) -> Result<Map<String, Value>, Failure> {
    let request = request(auth, asked, login, code, checked)?;
    let response = send(asked, request, checked).await?;
    if response.status() != StatusCode::OK {
        return Err(if is_code_refused(response.body()) {
            Failure::CodeRefused
        } else {
            Failure::Status(response.status())
        });
    }
    let id_token = id_token(response.body()).ok_or(Failure::NoIdToken)?;
    let wanted = JwtAuth {
        keys: JwtKeys::Url(Arc::clone(&asked.provider.jwks_uri)),
        issuer: Some(Arc::clone(&auth.issuer)),
        audiences: [asked.client.id.clone()].into(),
        algorithms: JwtAlgorithm::ALL.into(),
        leeway: LEEWAY,
        cookie: None,
        fields: [].into(),
    };
    let claims = token::claims_of(&wanted, id_token.as_bytes(), checked).await;
    let claims = claims.map_err(|failure| Failure::of_token(&failure))?;
    check(&claims, asked.client, &encode(&login.nonce))?;
    Ok(claims)
}

fn request(
    auth: &OidcAuth,
    asked: &Asked<'_>,
    login: &Login,
    code: &str,
    checked: Checked<'_>,
) -> Result<Request<Full<Bytes>>, Failure> {
    let authentication = asked.provider.authentication;
    let form = token_form(
        authentication,
        TokenRequest {
            client: asked.client,
            code,
            redirect_uri: &redirect_uri(auth, checked.context),
            verifier: &encode(&login.verifier),
        },
    );
    let mut request = Request::post(&*asked.provider.token_endpoint)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(ACCEPT, "application/json");
    if authentication == ClientAuthentication::Basic {
        request = request.header(AUTHORIZATION, basic(asked.client));
    }
    Ok(request.body(Full::from(form))?)
}

/// The name and secret of a client, each encoded as in a form (RFC 6749 §2.3.1).
fn basic(client: &OidcClient) -> HeaderValue {
    let mut credentials = Vec::new();
    escape(client.id.as_bytes(), &mut credentials);
    credentials.push(b':');
    escape(client.secret.as_bytes(), &mut credentials);
    let value = HeaderValue::try_from(format!("Basic {}", STANDARD.encode(credentials)));
    let mut value = value.unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    value
}

/// Sends a request to the token endpoint. It keeps its place until it has ended, also where its client does not
/// wait that long, so that a provider that hangs holds a bounded number.
async fn send(
    asked: &Asked<'_>,
    request: Request<Full<Bytes>>,
    checked: Checked<'_>,
) -> Result<Response<Bytes>, Failure> {
    let place = Arc::clone(&asked.exchanges).try_acquire_owned();
    let place = place.map_err(|_| Failure::Busy)?;
    let services = checked.worker.known_clients.services().clone();
    let answer = tokio::task::spawn_local(async move {
        let _place = place;
        services.fetch(request, ANSWER_BYTES_MAX).await
    });
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(_)) | Err(_) => Err(Failure::TimedOut),
    }
}

/// What an ID token has to say beside what every token has to (OpenID Connect Core 1.0 §3.1.3.7).
fn check(claims: &Map<String, Value>, client: &OidcClient, nonce: &str) -> Result<(), Failure> {
    let wrong = |what: &str| Failure::IdToken(what.to_owned());
    if claims.get("nonce").and_then(Value::as_str) != Some(nonce) {
        return Err(wrong("it is of another login"));
    }
    let is_shared = claims
        .get("aud")
        .and_then(Value::as_array)
        .is_some_and(|audiences| audiences.len() > 1);
    match claims.get("azp") {
        None if is_shared => Err(wrong("it is for several clients and names none")),
        Some(party) if party.as_str() != Some(&client.id) => Err(wrong("it is of another client")),
        None | Some(_) => Ok(()),
    }
}

/// Seconds by which the clock of the provider may differ.
const LEEWAY: u32 = 30;
const ANSWER_BYTES_MAX: usize = 256 << 10;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_token_is_for_this_login_and_this_client() {
        let client = OidcClient {
            id: "web".into(),
            secret: "s".into(),
            cookie_secret: [0; 32].into(),
        };
        let is_good = |claims: Value| {
            let Value::Object(claims) = claims else {
                return false;
            };
            check(&claims, &client, "N").is_ok()
        };
        assert!(is_good(json!({"nonce": "N", "aud": "web"})));
        assert!(is_good(json!({"nonce": "N", "aud": ["web"]})));
        assert!(is_good(
            json!({"nonce": "N", "aud": ["web", "api"], "azp": "web"})
        ));
        assert!(!is_good(json!({"nonce": "N", "aud": ["web", "api"]})));
        assert!(!is_good(json!({"nonce": "N", "aud": "web", "azp": "api"})));
        assert!(!is_good(json!({"nonce": "M", "aud": "web"})));
        assert!(!is_good(json!({"nonce": 1, "aud": "web"})));
        assert!(!is_good(json!({"aud": "web"})));
    }

    #[test]
    fn credentials_are_encoded_before_they_are_joined() {
        let client = OidcClient {
            id: "a:b".into(),
            secret: "s%".into(),
            cookie_secret: [0; 32].into(),
        };
        let expected = format!("Basic {}", STANDARD.encode("a%3Ab:s%25"));
        assert_eq!(basic(&client).to_str().unwrap(), expected);
    }
}
