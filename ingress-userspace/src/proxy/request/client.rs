//! The client of a request, as far as it can be trusted.
//!
//! By default the client is the peer of the connection, whatever a head says. Peers in trusted networks
//! may name the client before them: as in nginx's realip module, the client is the last address of the
//! list that is not itself in a trusted network.
//!
//! Invariant: fields of an untrusted peer change nothing, so that spoofing is useless.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderValue};
use ingress_wire::http1::is_authority;

use crate::proxy::request::connection::Connection;
use crate::proxy::runtime::client_policy::ClientPolicy;
use crate::proxy::runtime::client_policy::ForwardedFor;
use crate::proxy::runtime::field::{
    FORWARDED, X_FORWARDED_HOST, X_FORWARDED_PORT, X_FORWARDED_PROTO, address_value, header_value,
    lines_in_one,
};
use crate::proxy::runtime::transport::Scheme;

/// The client of one request.
pub(crate) struct Client {
    /// Its address, as a header has it.
    pub(crate) address: HeaderValue,
    /// Other forwarding fields of a trusted peer.
    pub(crate) forwarded_info: Option<Box<ForwardedInfo>>,
}

impl Client {
    /// Its address, if that is one.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        address(self.address.as_bytes())
    }
}

/// What a proxy in front of us says about its own client's connection.
#[derive(Default)]
pub(crate) struct ForwardedInfo {
    pub(crate) scheme: Option<Scheme>,
    pub(crate) port: Option<HeaderValue>,
    pub(crate) host: Option<HeaderValue>,
    /// Addresses of the client and of all proxies that it came through.
    pub(crate) chain: Option<HeaderValue>,
    /// The same by RFC 7239, without us.
    pub(crate) forwarded: Option<HeaderValue>,
}

/// The client of a request.
pub(crate) fn identify(connection: &Connection, headers: &HeaderMap) -> Client {
    let policy = &*connection.worker.clients();
    let peer = connection.client.clone();
    if !connection.is_trusted {
        return Client {
            address: peer,
            forwarded_info: None,
        };
    }
    let listed = lines_in_one(headers, &policy.forwarded_for);
    let address = listed.as_ref().and_then(|list| client_of(policy, list));
    let is_full = policy.passed_on == ForwardedFor::All;
    let chain = is_full.then(|| match &listed {
        Some(list) => join(list, &peer),
        None => peer.clone(),
    });
    let forwarded = is_full && policy.add_forwarded;
    let forwarded_info = ForwardedInfo {
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
        forwarded_info: Some(Box::new(forwarded_info)),
    }
}

/// The last address of a list that is not one of ours; the first, if all are. What is no
/// address ends the list: no trusted peer has written the part before it.
fn client_of(policy: &ClientPolicy, list: &HeaderValue) -> Option<IpAddr> {
    let mut client = None;
    let elements = list.as_bytes().rsplit(|byte| *byte == b',');
    for element in elements.take(HOPS_MAX) {
        let Some(address) = address(element.trim_ascii()) else {
            break;
        };
        client = Some(address);
        if !policy.trusts(address) {
            break;
        }
    }
    client
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
        client_of(policy, &list).map(|ip| ip.to_string())
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
