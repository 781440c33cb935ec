//! The part of the configuration that ACME (RFC 8555) adds: challenges to answer, and the state of orders.
//!
//! It is the same on every node, whichever node is the leader.

use std::fmt;
use std::sync::Arc;

use super::{Host, ObjectRef};

/// Challenges that every node answers, and the state of certificates that Ingresses ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acme {
    /// Challenges of orders under way.
    pub challenges: Box<[Challenge]>,
    /// The certificates that are ordered, by their Secret.
    pub certificates: Box<[OrderedCertificate]>,
    /// Numbers of issued certificates and failed orders, by issuer.
    pub totals: Box<[OrderTotals]>,
}

/// A challenge that an ACME server validates over the network.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The host whose control is to be proven.
    pub host: Host,
    /// How it is proven.
    pub kind: ChallengeKind,
    /// Last segment of the path of HTTP-01 (RFC 8555 §8.3), in base64url.
    pub token: Arc<str>,
    /// The token and the thumbprint of the account's key (RFC 8555 §8.1).
    pub key_authorization: Arc<str>,
}

impl fmt::Debug for Challenge {
    /// Leaves out the key authorization, which must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge")
            .field("host", &self.host)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// How control over a host is proven.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChallengeKind {
    /// By a file over HTTP, port 80 (RFC 8555 §8.3).
    #[default]
    Http01,
    /// By a certificate in a TLS handshake, port 443 (RFC 8737).
    TlsAlpn01,
}

impl ChallengeKind {
    /// The name in ACME: `http-01` or `tls-alpn-01`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http01 => "http-01",
            Self::TlsAlpn01 => "tls-alpn-01",
        }
    }

    /// Reads the name in ACME.
    pub fn parse(text: &str) -> Option<Self> {
        let kinds = [Self::Http01, Self::TlsAlpn01];
        kinds.into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A certificate that an Ingress asks an issuer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderedCertificate {
    /// The Secret that holds it, or will.
    pub secret: ObjectRef,
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// When it is renewed, in seconds since 1970; `None` before it is issued.
    pub renews_at: Option<i64>,
    /// The failed attempts since the last certificate, if the last one failed.
    pub failure: Option<OrderFailure>,
}

/// Failed attempts to get a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderFailure {
    /// How many in a row.
    pub attempts: u32,
    /// Why the last one failed.
    pub error: Arc<str>,
    /// When the next one follows, in seconds since 1970.
    pub retry_at: i64,
}

/// Numbers of issued certificates and failed orders at one issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderTotals {
    /// The issuer's name.
    pub issuer: Arc<str>,
    /// Certificates issued.
    pub issued: u64,
    /// Orders that failed.
    pub failed: u64,
}
