//! The keys for JSON Web Tokens.

use super::Scope::Ingress;
use super::{Row, row};
use crate::annotation::jwt;

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "auth-jwt-jwks-url",
        Ingress,
        [
            "URL",
            "none",
            "Lets in clients with a JSON Web Token (RFC 7519) that a key of this set (RFC 7517) has signed and that has not expired; others get 401. The set is fetched again every ten minutes or as `Cache-Control` says, and for an unknown `kid`. Without one, as when the URL cannot be reached, clients get 503. Certificates of `https` have to be trusted by the system. Not in ingress-nginx, as all keys of this family.",
        ],
        jwt::url,
    ),
    row(
        "auth-jwt-jwks-secret",
        Ingress,
        [
            "`name` or `namespace/name`",
            "none",
            "Secret in the namespace of the Ingress with the set of keys as `jwks.json`, in place of the URL.",
        ],
        jwt::secret,
    ),
    row(
        "auth-jwt-jwks-config-map",
        Ingress,
        [
            "`name` or `namespace/name`",
            "none",
            "ConfigMap in the namespace of the Ingress with the set of keys as `jwks.json`, in place of the URL.",
        ],
        jwt::config_map,
    ),
    row(
        "auth-jwt-issuer",
        Ingress,
        ["text", "any", "Issuer (`iss`) that tokens have to have."],
        jwt::issuer,
    ),
    row(
        "auth-jwt-audience",
        Ingress,
        [
            "list of texts",
            "any",
            "Accepted audiences: a token's `aud` has to name at least one.",
        ],
        jwt::audience,
    ),
    row(
        "auth-jwt-algorithms",
        Ingress,
        [
            "list of `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`, `EdDSA`",
            "`RS256, ES256`",
            "Algorithms that tokens may be signed by.",
        ],
        jwt::algorithms,
    ),
    row(
        "auth-jwt-leeway",
        Ingress,
        [
            "seconds",
            "`30`",
            "By how much the clock of the issuer may differ.",
        ],
        jwt::leeway,
    ),
    row(
        "auth-jwt-cookie",
        Ingress,
        [
            "name",
            "none",
            "Cookie with the token of clients that send no `Authorization: Bearer`.",
        ],
        jwt::cookie,
    ),
    row(
        "auth-jwt-claims-to-headers",
        Ingress,
        [
            "list of `claim: field`",
            "none",
            "Fields of the request in which the endpoint gets claims of the token; a list becomes a text with commas. Fields of the client with these names are removed.",
        ],
        jwt::claims_to_headers,
    ),
];
