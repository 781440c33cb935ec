//! The keys for how endpoints share requests.

use super::Scope::{Both, Ingress};
use super::{Row, row};
use crate::annotation::balance;

/// In the order in which they are read: a later one may depend on an earlier one.
pub(super) const READ: &[Row] = &[
    row(
        "load-balance",
        Both,
        [
            "`least_request`, `round_robin`, `ewma`",
            "`least_request`",
            "How requests are shared among endpoints. ingress-nginx defaults to `round_robin`.",
        ],
        balance::load_balance,
    ),
    row(
        "upstream-hash-by",
        Both,
        [
            "`$request_uri`, `$uri`, `$host`, `$remote_addr`, `$http_NAME`",
            "none",
            "Requests with the same value go to the same endpoint.",
        ],
        balance::upstream_hash_by,
    ),
    row(
        "upstream-hash-by-subset",
        Ingress,
        [
            "boolean",
            "`false`",
            "Requests with the same value of `upstream-hash-by` share a subset of the endpoints in place of one.",
        ],
        balance::hash_by_subset,
    ),
    row(
        "upstream-hash-by-subset-size",
        Ingress,
        ["number", "`3`", "Endpoints of such a subset."],
        balance::subset_size,
    ),
    row(
        "affinity",
        Both,
        [
            "`cookie`",
            "none",
            "Sessions stay with an endpoint by a cookie.",
        ],
        balance::affinity,
    ),
    row(
        "affinity-mode",
        Both,
        [
            "`balanced`, `persistent`",
            "`balanced`",
            "Whether sessions move when endpoints are added.",
        ],
        balance::affinity_mode,
    ),
    row(
        "session-cookie-name",
        Both,
        ["token", "`INGRESSCOOKIE`", "Name of the session cookie."],
        balance::cookie_name,
    ),
    row(
        "session-cookie-path",
        Both,
        [
            "path",
            "path of the rule",
            "`Path` of the session cookie. The default is `/` where the path of the rule is a regular expression: ingress-nginx sets the expression, which no client sends back.",
        ],
        balance::cookie_path,
    ),
    row(
        "session-cookie-domain",
        Both,
        ["domain", "none", "`Domain` of the session cookie."],
        balance::cookie_domain,
    ),
    row(
        "session-cookie-max-age",
        Both,
        ["seconds", "none", "`Max-Age` of the session cookie."],
        balance::cookie_max_age,
    ),
    row(
        "session-cookie-samesite",
        Both,
        [
            "`Strict`, `Lax`, `None`",
            "none",
            "`SameSite` of the session cookie.",
        ],
        balance::cookie_same_site,
    ),
    row(
        "session-cookie-secure",
        Both,
        ["boolean", "over HTTPS", "`Secure` of the session cookie."],
        balance::cookie_secure,
    ),
    row(
        "session-cookie-conditional-samesite-none",
        Both,
        [
            "boolean",
            "`false`",
            "Leaves `SameSite=None` out for clients that do not understand it: Chrome 51 to 66, Safari of iOS 12 and macOS 10.14, UC Browser before 12.13.2.",
        ],
        balance::conditional_same_site_none,
    ),
    row(
        "session-cookie-change-on-failure",
        Both,
        [
            "boolean",
            "`false`",
            "Whether a session moves when its endpoint fails.",
        ],
        balance::change_on_failure,
    ),
];
