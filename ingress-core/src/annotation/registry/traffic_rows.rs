//! How much clients may ask for, and which backend gets it.

use super::Scope::{Both, Class, Ingress};
use super::{Row, row};
use crate::annotation::{block, canary, mirror, rate_limit, service_upstream};

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "limit-rps",
        Ingress,
        [
            "number",
            "`0`",
            "Requests a second of each client address; `0` is unlimited. Counted on each node.",
        ],
        rate_limit::per_second,
    ),
    row(
        "limit-rpm",
        Ingress,
        ["number", "`0`", "Requests a minute of each client address."],
        rate_limit::per_minute,
    ),
    row(
        "limit-burst-multiplier",
        Ingress,
        [
            "number",
            "`5`",
            "A burst may have this many times the rate.",
        ],
        rate_limit::burst_multiplier,
    ),
    row(
        "limit-connections",
        Ingress,
        [
            "number",
            "`0`",
            "Requests at a time of each client address; `0` is unlimited.",
        ],
        rate_limit::connections,
    ),
    row(
        "limit-allowlist",
        Ingress,
        ["list of networks", "none", "Clients that are not counted."],
        rate_limit::allowlist,
    ),
    row(
        "limit-whitelist",
        Ingress,
        [
            "list of networks",
            "none",
            "Other name of `limit-allowlist`.",
        ],
        rate_limit::allowlist,
    ),
    row(
        "limit-rate",
        Both,
        [
            "KiB a second",
            "`0`",
            "Bandwidth of a response; `0` is unlimited.",
        ],
        rate_limit::bandwidth,
    ),
    row(
        "limit-rate-after",
        Both,
        [
            "KiB",
            "`0`",
            "What a response may have before `limit-rate` counts.",
        ],
        rate_limit::bandwidth_after,
    ),
    row(
        "limit-req-status-code",
        Class,
        [
            "status",
            "`503`",
            "Status of the answer to too many requests.",
        ],
        rate_limit::rate_status,
    ),
    row(
        "limit-conn-status-code",
        Class,
        [
            "status",
            "`503`",
            "Status of the answer to too many requests at a time.",
        ],
        rate_limit::connections_status,
    ),
    row(
        "canary",
        Ingress,
        [
            "boolean",
            "`false`",
            "The rules of this Ingress get some of the requests of rules with the same host and path in other Ingresses. Any number of canaries.",
        ],
        canary::enable,
    ),
    row(
        "canary-by-header",
        Ingress,
        [
            "name",
            "none",
            "Requests with `always` in this field go to the canary, those with `never` do not.",
        ],
        canary::by_header,
    ),
    row(
        "canary-by-header-value",
        Ingress,
        ["text", "none", "Value of the field in place of `always`."],
        canary::by_header_value,
    ),
    row(
        "canary-by-header-pattern",
        Ingress,
        [
            "expression",
            "none",
            "Expression for values of the field; without look-around and back-references.",
        ],
        canary::by_header_pattern,
    ),
    row(
        "canary-by-cookie",
        Ingress,
        [
            "name",
            "none",
            "Requests with `always` in this cookie go to the canary, those with `never` do not.",
        ],
        canary::by_cookie,
    ),
    row(
        "canary-weight",
        Ingress,
        ["number", "`0`", "Share of the other requests."],
        canary::weight,
    ),
    row(
        "canary-weight-total",
        Ingress,
        ["number", "`100`", "What shares add up to."],
        canary::weight_total,
    ),
    row(
        "affinity-canary-behavior",
        Ingress,
        [
            "`sticky`, `legacy`",
            "`sticky`",
            "`sticky`: the canary has the sessions of the main rule, and a client with a session stays with the backend that it had, whatever its fields and the weights. `legacy`: the canary has the sessions of its own Ingress, if any.",
        ],
        canary::sessions,
    ),
    row(
        "mirror-target",
        Ingress,
        [
            "URL with variables",
            "none",
            "Copies of requests are sent here; their answers are dropped, and no client waits for them.",
        ],
        mirror::target,
    ),
    row(
        "mirror-host",
        Ingress,
        ["host", "that of the target", "`Host` of copies."],
        mirror::host,
    ),
    row(
        "mirror-request-body",
        Ingress,
        [
            "`on`, `off`",
            "`on`",
            "Whether copies have bodies. Requests with bodies of more than 64 KiB are not copied.",
        ],
        mirror::request_body,
    ),
    row(
        "service-upstream",
        Both,
        [
            "boolean",
            "`false`",
            "Sends requests to the address of the Service in place of its endpoints.",
        ],
        service_upstream,
    ),
    row(
        "block-cidrs",
        Class,
        [
            "list of networks",
            "none",
            "Clients that are answered with 403.",
        ],
        block::cidrs,
    ),
    row(
        "block-user-agents",
        Class,
        [
            "list of texts and `~`expressions",
            "none",
            "Clients with this `User-Agent` are answered with 403.",
        ],
        block::user_agents,
    ),
    row(
        "block-referers",
        Class,
        [
            "list of texts and `~`expressions",
            "none",
            "Requests with this `Referer` are answered with 403.",
        ],
        block::referers,
    ),
];
