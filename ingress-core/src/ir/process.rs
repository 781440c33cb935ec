//! What the operator's ConfigMap says about the process as a whole, in place of its flags.

use ipnet::IpNet;

/// Settings of the process that hold from the next connection on. `None`: as the flag says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessSettings {
    /// Networks of proxies and load balancers that are believed about clients.
    pub trusted: Option<Box<[IpNet]>>,
    /// Whether the forwarding fields of their requests count.
    pub use_forwarded_headers: Option<bool>,
    /// The field in which they list addresses: a token in lower case.
    pub forwarded_for: Option<Box<str>>,
    /// Whether endpoints get the whole list.
    pub compute_full_forwarded_for: Option<bool>,
    /// Whether their connections begin with the header of the PROXY protocol.
    pub use_proxy_protocol: Option<bool>,
    /// Seconds for that header.
    pub proxy_header_timeout: Option<u32>,
    /// Seconds that a connection of a client may be idle.
    pub keep_alive: Option<u32>,
    /// Seconds that a connection to an endpoint may be idle.
    pub upstream_keep_alive: Option<u32>,
}
