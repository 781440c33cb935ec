//! Who a request is from, as far as we believe it.
//!
//! By default it is the peer of the connection, whatever a head says. Peers in named networks are
//! believed what they say about the client before them: as in nginx's realip module, the client is
//! the last address of the list that is not itself one of those networks.
//!
//! Invariant: nobody is believed who is not named, so that a spoofed field changes nothing.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::proxy::downstream::connection::{Connection, address_value, header_value};
use crate::proxy::downstream::listen::Scheme;
use crate::proxy::request::head::{
    FORWARDED, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO,
    is_authority, lines_in_one,
};

/// Who is believed, and what is passed on of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicy {
    /// Networks of proxies and load balancers that are believed.
    pub trusted: Vec<IpNet>,
    /// Whether they are believed what their requests' heads say.
    pub use_forwarded_headers: bool,
    /// The field in which they list addresses.
    pub forwarded_for: HeaderName,
    /// What endpoints get of it.
    pub passed_on: ForwardedFor,
    /// Whether endpoints get `Forwarded` (RFC 7239) too.
    pub add_forwarded: bool,
    /// Whether their connections begin with the header of the PROXY protocol.
    pub use_proxy_protocol: bool,
    /// Networks from which connections may be opened; none given: from everywhere.
    pub sources: Vec<IpNet>,
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
        }
    }
}

/// What endpoints get of a list of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForwardedFor {
    /// The client alone.
    Client,
    /// All of it, and the peer's.
    All,
}

/// The client of one request.
pub(crate) struct Client {
    /// Its address, as a header has it.
    pub(crate) address: HeaderValue,
    /// What a peer that is believed says besides.
    pub(crate) claims: Option<Box<Claims>>,
}

impl Client {
    /// Its address, if that is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        address(self.address.as_bytes())
    }
}

/// What a proxy in front of us says about its own client's connection.
#[derive(Default)]
pub(crate) struct Claims {
    pub(crate) scheme: Option<Scheme>,
    pub(crate) port: Option<HeaderValue>,
    pub(crate) host: Option<HeaderValue>,
    /// Addresses of the client and of all proxies that it came through.
    pub(crate) chain: Option<HeaderValue>,
    /// The same by RFC 7239, without us.
    pub(crate) forwarded: Option<HeaderValue>,
}

impl ClientPolicy {
    /// Whether somebody at this address may open connections. The node itself always may by its
    /// loopback addresses, which nobody else has.
    pub(crate) fn may_connect(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.sources.is_empty()
            || peer.is_loopback()
            || self.sources.iter().any(|network| network.contains(&peer))
    }

    /// Whether the connections of a peer begin with a header of the PROXY protocol.
    pub(crate) fn expects_header(&self, peer: SocketAddr) -> bool {
        self.use_proxy_protocol && self.trusts(peer.ip())
    }

    /// Whether what a peer's requests say is believed.
    pub(crate) fn believes(&self, peer: SocketAddr) -> bool {
        self.use_forwarded_headers && self.trusts(peer.ip())
    }

    /// Whether somebody at this address is believed.
    pub(crate) fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.trusted
            .iter()
            .any(|network| network.contains(&address))
    }

    /// The client of a request.
    pub(crate) fn identify(&self, connection: &Connection, headers: &HeaderMap) -> Client {
        let peer = connection.client.clone();
        if !connection.is_believed {
            return Client {
                address: peer,
                claims: None,
            };
        }
        let listed = lines_in_one(headers, &self.forwarded_for);
        let address = listed.as_ref().and_then(|list| self.client_of(list));
        let is_full = self.passed_on == ForwardedFor::All;
        let chain = is_full.then(|| match &listed {
            Some(list) => join(list, &peer),
            None => peer.clone(),
        });
        let forwarded = is_full && self.add_forwarded;
        let claims = Claims {
            scheme: headers.get(X_FORWARDED_PROTO).and_then(scheme),
            port: headers.get(X_FORWARDED_PORT).and_then(port),
            host: headers.get(X_FORWARDED_HOST).and_then(host),
            chain,
            forwarded: forwarded
                .then(|| lines_in_one(headers, &FORWARDED))
                .flatten(),
        };
        Client {
            address: address.map_or(peer, address_value),
            claims: Some(Box::new(claims)),
        }
    }

    /// The last address of a list that is not one of ours; the first, if all are. What is no
    /// address ends the list: nobody whom we believe has written what is before it.
    fn client_of(&self, list: &HeaderValue) -> Option<IpAddr> {
        let mut client = None;
        let elements = list.as_bytes().rsplit(|byte| *byte == b',');
        for element in elements.take(HOPS_MAX) {
            let Some(address) = address(element.trim_ascii()) else {
                break;
            };
            client = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        client
    }
}

/// An address, with or without a port.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let ip = bare.unwrap_or(text).parse::<IpAddr>();
    let ip = ip.or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

fn join(list: &HeaderValue, peer: &HeaderValue) -> HeaderValue {
    let joined = [list.as_bytes(), b", ", peer.as_bytes()].concat();
    HeaderValue::from_bytes(&joined).unwrap_or_else(|_| peer.clone())
}

fn scheme(value: &HeaderValue) -> Option<Scheme> {
    match value.as_bytes() {
        value if value.eq_ignore_ascii_case(b"http") => Some(Scheme::Http),
        value if value.eq_ignore_ascii_case(b"https") => Some(Scheme::Https),
        _ => None,
    }
}

fn port(value: &HeaderValue) -> Option<HeaderValue> {
    let port = value.to_str().ok()?.parse::<u16>().ok()?;
    Some(HeaderValue::from(port))
}

fn host(value: &HeaderValue) -> Option<HeaderValue> {
    let first = value.as_bytes().split(|byte| *byte == b',').next()?;
    let first = first.trim_ascii();
    let is_host = !first.is_empty() && is_authority(first);
    is_host
        .then(|| HeaderValue::from_bytes(first).ok())
        .flatten()
}

/// An element of `Forwarded` (RFC 7239 §4).
pub(crate) fn forwarded_element(
    address: &HeaderValue,
    host: &HeaderValue,
    scheme: Scheme,
) -> HeaderValue {
    let address = address.to_str().unwrap_or_default();
    // `unknown` is what the RFC has for an address that cannot be told (§6.2).
    let node = match address.parse() {
        Ok(IpAddr::V4(ip)) => ip.to_string(),
        Ok(IpAddr::V6(ip)) => format!("\"[{ip}]\""),
        Err(_) => "unknown".to_owned(),
    };
    let scheme = match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let host = host.to_str().unwrap_or_default();
    header_value(format!("for={node};host=\"{host}\";proto={scheme}"))
}

/// Appends an element to a list.
pub(crate) fn forwarded_list(list: Option<&HeaderValue>, element: &HeaderValue) -> HeaderValue {
    list.map_or_else(|| element.clone(), |list| join(list, element))
}

/// Addresses of a list that are looked at.
const HOPS_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(trusted: &[&str]) -> ClientPolicy {
        let trusted = trusted.iter().map(|network| network.parse().unwrap());
        ClientPolicy {
            trusted: trusted.collect(),
            use_forwarded_headers: true,
            ..ClientPolicy::default()
        }
    }

    fn client(policy: &ClientPolicy, list: &str) -> Option<String> {
        let list = HeaderValue::from_str(list).unwrap();
        policy.client_of(&list).map(|ip| ip.to_string())
    }

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

    #[test]
    fn the_client_is_the_last_that_is_not_ours() {
        let policy = policy(&["10.0.0.0/8", "fd00::/8"]);
        for (list, found) in [
            ("1.1.1.1", Some("1.1.1.1")),
            ("6.6.6.6, 1.1.1.1", Some("1.1.1.1")),
            ("6.6.6.6, 1.1.1.1, 10.0.0.1,fd00::1", Some("1.1.1.1")),
            ("10.0.0.2, 10.0.0.1", Some("10.0.0.2")),
            ("nobody, 10.0.0.1", Some("10.0.0.1")),
            ("1.1.1.1, nobody", None),
            ("1.1.1.1:8080", Some("1.1.1.1")),
            ("[2001:db8::1]:80", Some("2001:db8::1")),
            ("[2001:db8::1]", Some("2001:db8::1")),
            ("::ffff:1.1.1.1, ::ffff:10.0.0.1", Some("1.1.1.1")),
            ("", None),
        ] {
            assert_eq!(client(&policy, list).as_deref(), found, "{list}");
        }
    }

    #[test]
    fn hosts_and_schemes_are_checked() {
        let value = HeaderValue::from_static;
        assert_eq!(host(&value("a.test:80, b.test")), Some(value("a.test:80")));
        for wrong in ["", "a b", "a/b", "user@host", "a\"b"] {
            assert_eq!(host(&value(wrong)), None, "{wrong}");
        }
        assert_eq!(scheme(&value("HTTPS")), Some(Scheme::Https));
        assert_eq!(scheme(&value("ftp")), None);
        assert_eq!(port(&value("70000")), None);
    }

    proptest! {
        /// Whatever stands before what a trusted proxy has added has no say.
        #[test]
        fn nobody_writes_an_address_but_those_whom_we_believe(spoofed in "[ -~]{0,40}", last in any::<[u8; 4]>()) {
            let policy = policy(&["10.0.0.0/8"]);
            prop_assume!(last[0] != 10);
            let last = IpAddr::from(last).to_string();
            let list = format!("{spoofed}, {last}, 10.1.2.3");
            prop_assert_eq!(client(&policy, &list), Some(last));
        }
    }
}
