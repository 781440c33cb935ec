//! What holds of whatever a client or a provider sends for a login. Shared with the fuzz target `oidc`.

use http::HeaderMap;
use http::header::{COOKIE, HeaderValue};
use ingress_core::oidc::{Callback, Login, Outcome, Provider, Session, cookie, id_token};

/// Reads the bytes as all that is read of clients and providers.
pub(crate) fn check(bytes: &[u8]) {
    if let Some(session) = Session::decode(bytes) {
        assert_eq!(
            session.encode().as_deref(),
            Some(bytes),
            "one writing of a session"
        );
        assert_eq!(Login::decode(bytes), None, "no session is a login");
    }
    if let Some(login) = Login::decode(bytes) {
        assert_eq!(login.encode(), bytes, "one writing of a login");
        assert!(login.target.starts_with(b"/"), "users return to a path");
    }
    if let Ok(callback) = Callback::parse(bytes)
        && let Outcome::Code(code) = callback.outcome
    {
        assert!(!code.is_empty() && code.len() <= bytes.len());
    }
    if let Ok(provider) = Provider::parse(bytes) {
        let is_secure = provider.issuer.starts_with("https://");
        let is_clear = provider
            .token_endpoint
            .to_ascii_lowercase()
            .starts_with("http://");
        assert!(
            !(is_secure && is_clear),
            "the secret of a client goes in clear text"
        );
    }
    let _ = id_token(bytes);
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        without_sessions(value);
    }
}

/// No cookie of a login is left, and every other one is.
fn without_sessions(line: HeaderValue) {
    let cookies = |headers: &HeaderMap| -> Vec<Vec<u8>> {
        let lines = headers.get_all(COOKIE).into_iter();
        let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let cookies = cookies.map(|cookie| cookie.trim_ascii().to_vec());
        cookies.filter(|cookie| !cookie.is_empty()).collect()
    };
    let is_ours = |cookie: &[u8]| {
        let prefixes: [&[u8]; 3] = [
            b"sluice-oidc-",
            b"__Host-sluice-oidc-",
            b"__Secure-sluice-oidc-",
        ];
        prefixes.iter().any(|prefix| cookie.starts_with(prefix))
    };
    let mut headers = HeaderMap::new();
    headers.insert(COOKIE, line);
    let mut expected = cookies(&headers);
    expected.retain(|cookie| !is_ours(cookie));
    match cookie::without_ours(&headers) {
        None => {}
        Some(None) => drop(headers.remove(COOKIE)),
        Some(Some(others)) => drop(headers.insert(COOKIE, others)),
    }
    assert_eq!(cookies(&headers), expected);
}
