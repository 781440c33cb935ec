//! Access to a route by a login at an OpenID provider (OpenID Connect Core 1.0).

use std::fmt;
use std::sync::Arc;

/// The logins that let a client in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OidcAuth {
    /// The issuer identifier of the provider: an absolute `http` or `https` URL without a query.
    pub issuer: Arc<str>,
    /// The account of the proxy at the provider. `None` until its Secret is read: no client passes.
    pub client: Option<Arc<OidcClient>>,
    /// Scopes that the proxy requests from the provider, separated by spaces; `openid` is one of them.
    pub scopes: Arc<str>,
    /// The path that the provider sends users back to.
    pub callback_path: Arc<str>,
    /// The path that ends the session of a user.
    pub logout_path: Arc<str>,
    /// Where users go after they have logged out: an absolute URL.
    pub logout_url: Option<Arc<str>>,
    /// A user has to be in one of these groups, unless there is none.
    pub groups: Box<[Box<str>]>,
    /// The claim of the ID token that lists the groups of a user.
    pub groups_claim: Arc<str>,
    /// Claims, and the fields of the request, in lower case, that tell the endpoint of them.
    pub fields: Box<[(Box<str>, Box<str>)]>,
    /// Seconds from a login to the end of its session.
    pub session_lifetime: u32,
}

/// The paths of an Ingress that the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OidcPath {
    /// The provider sends users back here.
    Callback,
    /// Users end their sessions here.
    Logout,
}

impl OidcAuth {
    /// Whether a login for one is a login for the other, at the same host.
    pub fn shares_sessions_with(&self, other: &Self) -> bool {
        let claims = |auth: &Self| -> Vec<Box<str>> {
            let claims = auth.fields.iter().map(|(claim, _)| claim.clone());
            claims.collect()
        };
        self.issuer == other.issuer
            && self.client == other.client
            && self.callback_path == other.callback_path
            && self.groups == other.groups
            && self.groups_claim == other.groups_claim
            && claims(self) == claims(other)
    }

    /// Which of the proxy's own paths a normalised path is.
    pub fn own_path(&self, path: &[u8]) -> Option<OidcPath> {
        if path == self.callback_path.as_bytes() {
            Some(OidcPath::Callback)
        } else if path == self.logout_path.as_bytes() {
            Some(OidcPath::Logout)
        } else {
            None
        }
    }
}

/// The account of the proxy at a provider, and what sessions are encrypted by.
#[derive(Clone, PartialEq, Eq)]
pub struct OidcClient {
    /// `client_id`.
    pub id: Box<str>,
    /// `client_secret`.
    pub secret: Box<str>,
    /// The secret that all nodes derive the keys of cookies from: 32 bytes or more.
    pub cookie_secret: Box<[u8]>,
}

impl fmt::Debug for OidcClient {
    /// The name of the client only: secrets must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OidcClient")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_of_a_client_are_not_shown() {
        let client = OidcClient {
            id: "sluice".into(),
            secret: "s3cret".into(),
            cookie_secret: [7; 32].into(),
        };
        assert_eq!(format!("{client:?}"), "OidcClient { id: \"sluice\", .. }");
    }
}
