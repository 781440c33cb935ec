//! Which clients may connect, and which peers are trusted to name the client before them.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::HeaderName;
use ingress_core::deny::DenyList;
use ipnet::IpNet;

use crate::proxy::runtime::field::X_FORWARDED_FOR;

/// Which peers are trusted about clients, and what endpoints get of their fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicy {
    /// Networks of trusted proxies and load balancers.
    pub trusted: Vec<IpNet>,
    /// Whether the forwarding fields of their requests count.
    pub use_forwarded_headers: bool,
    /// The field in which they list addresses.
    pub forwarded_for: HeaderName,
    /// The part of that list that endpoints get.
    pub passed_on: ForwardedFor,
    /// Whether endpoints get `Forwarded` (RFC 7239) too.
    pub add_forwarded: bool,
    /// Whether their connections begin with the header of the PROXY protocol.
    pub use_proxy_protocol: bool,
    /// Networks from which connections may be opened; none given: from everywhere.
    pub sources: Vec<IpNet>,
    /// Networks from which none may be opened. Replaced while connections are accepted.
    pub denied: SharedDenyList,
}

impl Default for ClientPolicy {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            use_forwarded_headers: false,
            forwarded_for: X_FORWARDED_FOR,
            passed_on: ForwardedFor::Client,
            add_forwarded: false,
            use_proxy_protocol: false,
            sources: Vec::new(),
            denied: SharedDenyList::default(),
        }
    }
}

/// A list of denied networks that is replaced in place. It equals itself only, whatever it holds.
#[derive(Clone, Debug, Default)]
pub struct SharedDenyList(pub Arc<ArcSwap<DenyList>>);

impl PartialEq for SharedDenyList {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for SharedDenyList {}

/// Which addresses of `X-Forwarded-For` endpoints get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The client alone.
    Client,
    /// All of it, and the peer's.
    All,
}

impl ClientPolicy {
    /// Whether somebody at this address may open connections. The node itself always may by its
    /// loopback addresses, which only this host has.
    pub(crate) fn may_connect(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let is_named = || self.sources.iter().any(|network| network.contains(&peer));
        peer.is_loopback()
            || (self.sources.is_empty() || is_named()) && !self.denied.0.load().contains(peer)
    }

    /// Whether the connections of a peer begin with a header of the PROXY protocol.
    pub(crate) fn expects_header(&self, peer: SocketAddr) -> bool {
        self.use_proxy_protocol && self.trusts(peer.ip())
    }

    /// Whether what a peer's requests say is believed.
    pub(crate) fn trusts_headers_of(&self, peer: SocketAddr) -> bool {
        self.use_forwarded_headers && self.trusts(peer.ip())
    }

    /// Whether somebody at this address is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_networks_and_the_node_itself_may_connect() {
        let policy = |sources: &[&str]| {
            let sources = sources.iter().map(|network| network.parse().unwrap());
            ClientPolicy {
                sources: sources.collect(),
                ..ClientPolicy::default()
            }
        };
        let may = |sources: &[&str], peer: &str| policy(sources).may_connect(peer.parse().unwrap());
        assert!(may(&[], "192.0.2.1"));
        let sources = ["192.0.2.0/24", "2001:db8::/32"];
        for (peer, expected) in [
            ("192.0.2.1", true),
            // As a socket of both versions has it.
            ("::ffff:192.0.2.1", true),
            ("198.51.100.1", false),
            ("::ffff:198.51.100.1", false),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("127.0.0.1", true),
            ("::1", true),
            ("::ffff:127.0.0.1", true),
        ] {
            assert_eq!(may(&sources, peer), expected, "{peer}");
        }
        assert!(!may(&["::/0"], "192.0.2.1"), "IPv6 is not IPv4");
    }
}
