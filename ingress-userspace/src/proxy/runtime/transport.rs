//! Words for the ways in which clients reach the proxy.

use serde::Serialize;

/// What clients speak on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// What comes to a port: connections or datagrams.
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
