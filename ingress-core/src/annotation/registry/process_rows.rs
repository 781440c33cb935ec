//! The keys of the operator's ConfigMap that concern the process and take effect at once.

use super::Scope::Controller;
use super::{Row, row};
use crate::annotation::process;

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "proxy-real-ip-cidr",
        Controller,
        [
            "list of networks",
            "`--proxy-real-ip-cidr`",
            "Networks of proxies and load balancers that are believed about clients. ingress-nginx believes everybody by default.",
        ],
        process::trusted,
    ),
    row(
        "use-forwarded-headers",
        Controller,
        [
            "boolean",
            "`--use-forwarded-headers`",
            "Believes them what `X-Forwarded-For`, `-Host`, `-Port` and `-Proto` say.",
        ],
        process::use_forwarded_headers,
    ),
    row(
        "forwarded-for-header",
        Controller,
        [
            "name",
            "`--forwarded-for-header`",
            "Field in which they list addresses.",
        ],
        process::forwarded_for,
    ),
    row(
        "compute-full-forwarded-for",
        Controller,
        [
            "boolean",
            "`--compute-full-forwarded-for`",
            "Sends endpoints the whole list of addresses.",
        ],
        process::compute_full_forwarded_for,
    ),
    row(
        "use-proxy-protocol",
        Controller,
        [
            "boolean",
            "`--use-proxy-protocol`",
            "Takes the header of the PROXY protocol, which their new connections then must have.",
        ],
        process::use_proxy_protocol,
    ),
    row(
        "proxy-protocol-header-timeout",
        Controller,
        [
            "seconds",
            "`--proxy-protocol-header-timeout`",
            "For that header.",
        ],
        process::proxy_header_timeout,
    ),
    row(
        "keep-alive",
        Controller,
        [
            "seconds",
            "`--keep-alive`",
            "For which a connection of a client may be idle.",
        ],
        process::keep_alive,
    ),
    row(
        "upstream-keepalive-timeout",
        Controller,
        [
            "seconds",
            "`--upstream-keepalive-timeout`",
            "For which a connection to an endpoint may be idle.",
        ],
        process::upstream_keep_alive,
    ),
];
