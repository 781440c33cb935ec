//! The keys for probes of endpoints.

use super::Scope::Both;
use super::{Row, row};
use crate::annotation::health_check;

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "health-check",
        Both,
        [
            "`http`, `tcp`, `off`",
            "`off`",
            "Probes each endpoint, from each node, besides its readiness. `http` sends a request in the protocol of the backend, `tcp` opens a connection. A failing endpoint gets no requests until it passes again, unless all of the backend fail. At most 8,192 endpoints of a node are probed. Not in ingress-nginx.",
        ],
        health_check::kind,
    ),
    row(
        "health-check-path",
        Both,
        ["path", "`/`", "Target of such a request."],
        health_check::path,
    ),
    row(
        "health-check-host",
        Both,
        [
            "host",
            "the endpoint's address",
            "`Host` of such a request.",
        ],
        health_check::host,
    ),
    row(
        "health-check-status",
        Both,
        [
            "list of statuses and ranges",
            "`200-399`",
            "Statuses of a healthy endpoint.",
        ],
        health_check::statuses,
    ),
    row(
        "health-check-interval",
        Both,
        [
            "seconds",
            "`10`",
            "From the start of a probe to the start of the next; at most 3600.",
        ],
        health_check::interval,
    ),
    row(
        "health-check-timeout",
        Both,
        ["seconds", "`2`", "What a probe may take."],
        health_check::timeout,
    ),
    row(
        "health-check-healthy-threshold",
        Both,
        [
            "number",
            "`2`",
            "Passed probes in a row after which a failing endpoint gets requests again.",
        ],
        health_check::healthy_threshold,
    ),
    row(
        "health-check-unhealthy-threshold",
        Both,
        [
            "number",
            "`3`",
            "Failed probes in a row after which an endpoint gets no requests.",
        ],
        health_check::unhealthy_threshold,
    ),
];
