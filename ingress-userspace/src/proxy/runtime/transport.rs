//! Words for the ways in which clients reach the proxy.

use http::Version;
use serde::Serialize;

/// The scheme of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// The transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Connections.
    Tcp,
    /// Datagrams.
    Udp,
}

/// How a connection came to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Datapath {
    /// Steered into the ingress network namespace. One socket serves several ports there.
    Netns,
    /// Through the host's stack.
    Host,
}

/// The version of HTTP that a client speaks.
///
/// What a request may look like and what its response may be depend on it. Every question is a
/// method with a match of all versions, so that a further one has to answer each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Downstream {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Downstream {
    /// The version in an HTTP/1 request line.
    pub(crate) fn from_http1(version: Version) -> Self {
        if version == Version::HTTP_10 {
            Self::Http10
        } else {
            Self::Http11
        }
    }

    /// Whether a request without a host is invalid (RFC 9112 §3.2, RFC 9113 §8.3.1).
    pub(crate) fn needs_host(self) -> bool {
        match self {
            Self::Http10 => false,
            Self::Http11 | Self::Http2 => true,
        }
    }

    /// Whether the target of a request names its host in `:authority`, beside which `Host` may only
    /// repeat it.
    pub(crate) fn has_pseudo_fields(self) -> bool {
        match self {
            Self::Http10 | Self::Http11 => false,
            Self::Http2 => true,
        }
    }

    /// Whether an `Upgrade` field asks for another protocol (RFC 9110 §7.8).
    pub(crate) fn can_upgrade(self) -> bool {
        match self {
            Self::Http11 => true,
            Self::Http10 | Self::Http2 => false,
        }
    }

    /// Whether a response body may go from socket to socket: its bytes are the connection's.
    pub(crate) fn takes_spliced_bodies(self) -> bool {
        match self {
            Self::Http10 | Self::Http11 => true,
            Self::Http2 => false,
        }
    }

    /// Whether names of fields may have capital letters (RFC 9113 §8.2.1).
    pub(crate) fn keeps_field_case(self) -> bool {
        match self {
            Self::Http10 | Self::Http11 => true,
            Self::Http2 => false,
        }
    }

    /// Whether the connection ends with a malformed request: what follows may not be a request.
    pub(crate) fn ends_after_bad_request(self) -> bool {
        match self {
            Self::Http10 | Self::Http11 => true,
            Self::Http2 => false,
        }
    }
}
