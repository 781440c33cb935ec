//! The account of the proxy at an OpenID provider, in a Secret.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;

use crate::ir::{Filter, OidcAuth, OidcClient};

/// The account of a Secret.
///
/// # Errors
///
/// In words, for a Secret without one of the keys, or with a value that cannot be used.
pub(super) fn client(secret: &Secret) -> Result<OidcClient, String> {
    let value = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        let value = value.filter(|value| !value.0.is_empty());
        value
            .map(|value| &*value.0)
            .ok_or_else(|| format!("has no `{key}`"))
    };
    // A file that a Secret is made from often ends with a line break.
    let text = |key: &str| {
        let text = std::str::from_utf8(value(key)?);
        let text = text.map_err(|_| format!("has a `{key}` that is not UTF-8"))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.contains(char::is_control) {
            return Err(format!("has a `{key}` that is not one line of text"));
        }
        Ok(text.into())
    };
    let cookie_secret: Box<[u8]> = value("cookie-secret")?.into();
    if cookie_secret.len() < COOKIE_SECRET_BYTES_MIN {
        return Err(format!(
            "has a `cookie-secret` of {} bytes, at least {COOKIE_SECRET_BYTES_MIN} are expected",
            cookie_secret.len()
        ));
    }
    Ok(OidcClient {
        id: text("client-id")?,
        secret: text("client-secret")?,
        cookie_secret,
    })
}

/// Puts the account into the filters that ask for logins.
pub(super) fn set(filters: &mut [Filter], client: &Arc<OidcClient>) {
    for filter in filters {
        if let Filter::Authenticate(asked) = filter
            && let Some(oidc) = &asked.oidc
        {
            let mut asked = (**asked).clone();
            asked.oidc = Some(Arc::new(OidcAuth {
                client: Some(Arc::clone(client)),
                ..(**oidc).clone()
            }));
            *filter = Filter::Authenticate(Arc::new(asked));
        }
    }
}

/// As many bytes as the keys that are derived from it.
const COOKIE_SECRET_BYTES_MIN: usize = 32;

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn read(entries: &[(&str, &str)]) -> Result<OidcClient, String> {
        let entry = |(key, value): &(&str, &str)| {
            ((*key).to_owned(), ByteString(value.as_bytes().to_vec()))
        };
        client(&Secret {
            data: Some(entries.iter().map(entry).collect()),
            ..Secret::default()
        })
    }

    const ID: (&str, &str) = ("client-id", "sluice");
    const SECRET: (&str, &str) = ("client-secret", "s3cret\n");
    const COOKIE: (&str, &str) = ("cookie-secret", "0123456789abcdef0123456789abcdef");

    #[test]
    fn an_account_is_a_name_a_secret_and_a_cookie_secret() {
        let client = read(&[ID, SECRET, COOKIE]).unwrap();
        assert_eq!((&*client.id, &*client.secret), ("sluice", "s3cret"));
        assert_eq!(*client.cookie_secret, *COOKIE.1.as_bytes());
    }

    #[test]
    fn a_secret_without_a_usable_account_is_invalid() {
        for (entries, message) in [
            (vec![SECRET, COOKIE], "has no `client-id`"),
            (vec![ID, COOKIE], "has no `client-secret`"),
            (vec![ID, SECRET], "has no `cookie-secret`"),
            (
                vec![ID, ("client-secret", ""), COOKIE],
                "has no `client-secret`",
            ),
            (
                vec![("client-id", "a\nb"), SECRET, COOKIE],
                "has a `client-id` that is not one line of text",
            ),
            (
                vec![ID, SECRET, ("cookie-secret", "too short")],
                "has a `cookie-secret` of 9 bytes, at least 32 are expected",
            ),
        ] {
            assert_eq!(read(&entries).unwrap_err(), message);
        }
    }
}
