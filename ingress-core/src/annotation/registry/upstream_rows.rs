//! TLS to endpoints.

use super::Scope::Ingress;
use super::{Row, row};
use crate::annotation::upstream_tls;

/// In the order in which they are read.
pub(super) const READ: &[Row] = &[
    row(
        "proxy-ssl-secret",
        Ingress,
        [
            "`namespace/name`",
            "none",
            "Secret in the namespace of the Ingress: `tls.crt` and `tls.key` are shown to endpoints, `ca.crt` verifies them. Without it no other key of this family has an effect.",
        ],
        upstream_tls::secret,
    ),
    row(
        "proxy-ssl-verify",
        Ingress,
        [
            "`on`, `off`",
            "`off`",
            "Whether certificates of endpoints are verified.",
        ],
        upstream_tls::verify,
    ),
    row(
        "proxy-ssl-verify-depth",
        Ingress,
        [
            "number",
            "`1`",
            "Accepted; chains of any length that lead to an authority are taken.",
        ],
        upstream_tls::verify_depth,
    ),
    row(
        "proxy-ssl-name",
        Ingress,
        [
            "host",
            "that of the request",
            "Name in the certificates of endpoints and in the handshake.",
        ],
        upstream_tls::name,
    ),
    row(
        "proxy-ssl-server-name",
        Ingress,
        [
            "`on`, `off`",
            "`off`",
            "Whether the handshake names the host.",
        ],
        upstream_tls::server_name,
    ),
    row(
        "proxy-ssl-protocols",
        Ingress,
        [
            "`TLSv1.2`, `TLSv1.3`",
            "`TLSv1.2`",
            "Accepted; TLS 1.2 and 1.3 are spoken.",
        ],
        upstream_tls::protocols,
    ),
];
