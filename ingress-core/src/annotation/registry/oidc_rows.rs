//! The keys for logins at an OpenID provider.

use super::Scope::Ingress;
use super::{Row, row};
use crate::annotation::oidc;

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "auth-oidc-issuer",
        Ingress,
        [
            "URL",
            "none",
            "Lets in users who have logged in at this OpenID provider, by authorization code with PKCE; browsers without a session are sent there, other requests get 401 ([login.md](login.md)). The URL is the provider's issuer identifier: its discovery document is fetched from `/.well-known/openid-configuration` below it. While the provider cannot be reached, nobody can log in (503), and sessions go on. Certificates of `https` have to be trusted by the system. Not in ingress-nginx, as all keys of this family.",
        ],
        oidc::issuer,
    ),
    row(
        "auth-oidc-secret",
        Ingress,
        [
            "`name` or `namespace/name`",
            "none",
            "Secret in the namespace of the Ingress with the account at the provider, `client-id` and `client-secret`, and with a `cookie-secret` of at least 32 random bytes, by which all nodes encrypt sessions. A new `cookie-secret` ends all sessions.",
        ],
        oidc::secret,
    ),
    row(
        "auth-oidc-scopes",
        Ingress,
        [
            "list of texts",
            "`openid email profile`",
            "Scopes that the provider is asked for, with spaces or commas in between. `openid` is always asked for.",
        ],
        oidc::scopes,
    ),
    row(
        "auth-oidc-callback-path",
        Ingress,
        [
            "path",
            "`/oauth2/callback`",
            "Path that the provider sends users back to, on every host of the Ingress. The provider has to allow `https://HOST` with this path as a redirect URI.",
        ],
        oidc::callback_path,
    ),
    row(
        "auth-oidc-logout-path",
        Ingress,
        [
            "path",
            "`/oauth2/logout`",
            "Path that ends the session, on every host of the Ingress, and at the provider too if it has an `end_session_endpoint`.",
        ],
        oidc::logout_path,
    ),
    row(
        "auth-oidc-logout-url",
        Ingress,
        [
            "URL",
            "none",
            "Where users go after they have logged out: as `post_logout_redirect_uri`, which the provider has to allow, or at once where the provider has no `end_session_endpoint`.",
        ],
        oidc::logout_url,
    ),
    row(
        "auth-oidc-groups",
        Ingress,
        [
            "list of texts",
            "any",
            "Allowed groups. A user who is in none of them gets 403.",
        ],
        oidc::groups,
    ),
    row(
        "auth-oidc-groups-claim",
        Ingress,
        [
            "name",
            "`groups`",
            "Claim of the ID token that lists the groups of a user, or is the one group.",
        ],
        oidc::groups_claim,
    ),
    row(
        "auth-oidc-claims-to-headers",
        Ingress,
        [
            "list of `claim: field`",
            "none",
            "Fields of the request in which the endpoint gets claims of the ID token; a list becomes a text with commas. Fields of the client with these names are removed. The session keeps these claims alone.",
        ],
        oidc::claims_to_headers,
    ),
    row(
        "auth-oidc-session-lifetime",
        Ingress,
        [
            "seconds, 60 to 2592000",
            "`28800`",
            "From a login to the end of its session. A session is not renewed: the browser is sent to the provider again, which may know the user still.",
        ],
        oidc::session_lifetime,
    ),
];
