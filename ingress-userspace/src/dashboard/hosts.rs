//! Which `Host` and `Origin` fields the dashboard believes. Pure.
//!
//! A page of another site can make a browser resolve that site's name to an address of ours (DNS
//! rebinding). Its requests carry its own name in `Host`, so only known names are answered.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

/// The names under which browsers may reach the dashboard. The port is not compared: a port-forward has
/// another one.
#[derive(Clone, Debug)]
pub struct AllowedHosts {
    names: Vec<String>,
}

impl AllowedHosts {
    /// Loopback, the address that the dashboard listens on, and further names.
    pub fn new(address: SocketAddr, further: &[String]) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let own = match address.ip() {
            ip if ip.is_unspecified() => None,
            IpAddr::V4(ip) => Some(ip.to_string()),
            IpAddr::V6(ip) => Some(format!("[{ip}]")),
        };
        let further = further.iter().map(|name| name.to_ascii_lowercase());
        Self {
            names: loopback.into_iter().chain(own).chain(further).collect(),
        }
    }

    /// Returns true if the request has exactly one `Host`, and it is an allowed name.
    pub fn allow(&self, fields: &HeaderMap) -> bool {
        let Some(host) = only(fields, &header::HOST) else {
            return false;
        };
        name_of(host).is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            self.names.contains(&name)
        })
    }
}

/// Returns true if a request that changes something was sent by a page of the dashboard itself: `Origin`
/// names the same host and port as `Host`, and `Sec-Fetch-Site` does not contradict.
pub(super) fn is_same_origin(fields: &HeaderMap) -> bool {
    let (Some(host), Some(origin)) = (only(fields, &header::HOST), only(fields, &header::ORIGIN))
    else {
        return false;
    };
    let authority = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    let site = HeaderName::from_static("sec-fetch-site");
    let is_site_well = match fields.get(&site) {
        None => true,
        Some(_) => only(fields, &site) == Some("same-origin"),
    };
    is_site_well && authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

/// The value of a field that is there exactly once.
fn only<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = fields.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// The name of an authority without its port; `None` if the port is invalid.
fn name_of(authority: &str) -> Option<&str> {
    let end = if authority.starts_with('[') {
        authority.find(']')? + 1
    } else {
        authority.find(':').unwrap_or(authority.len())
    };
    let (name, port) = authority.split_at(end);
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then_some(name)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in pairs {
            fields.append(*name, HeaderValue::from_str(value).unwrap());
        }
        fields
    }

    fn allows(host: &str) -> bool {
        let address = "10.0.0.7:10256".parse().unwrap();
        let hosts = AllowedHosts::new(address, &["edge.example".to_owned()]);
        hosts.allow(&fields(&[("host", host)]))
    }

    #[test]
    fn known_names_are_allowed_with_any_port() {
        for host in [
            "localhost",
            "LOCALHOST:1234",
            "127.0.0.1:10256",
            "[::1]:9",
            "10.0.0.7",
            "Edge.example:443",
        ] {
            assert!(allows(host), "{host}");
        }
    }

    #[test]
    fn other_names_are_refused() {
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "evil.test:10256",
            "localhost:",
            "localhost:80x",
            "localhost@evil.test",
            "[::1",
            "127.0.0.1.evil.test",
            "::1",
        ] {
            assert!(!allows(host), "{host}");
        }
        let hosts = AllowedHosts::new("0.0.0.0:1".parse().unwrap(), &[]);
        assert!(!hosts.allow(&fields(&[])));
        assert!(!hosts.allow(&fields(&[("host", "0.0.0.0:1")])));
        assert!(!hosts.allow(&fields(&[("host", "localhost"), ("host", "localhost")])));
    }

    #[test]
    fn changes_come_from_the_same_origin() {
        let host = ("host", "localhost:7");
        let allowed = |more: &[(&'static str, &str)]| {
            let pairs: Vec<_> = [host].into_iter().chain(more.iter().copied()).collect();
            is_same_origin(&fields(&pairs))
        };
        let own = ("origin", "http://localhost:7");
        assert!(allowed(&[own]));
        assert!(allowed(&[own, ("sec-fetch-site", "same-origin")]));
        assert!(!allowed(&[]));
        assert!(!allowed(&[own, ("sec-fetch-site", "same-site")]));
        assert!(!allowed(&[own, ("sec-fetch-site", "cross-site")]));
        for origin in [
            "null",
            "http://localhost:8",
            "http://evil.test",
            "localhost:7",
        ] {
            assert!(!allowed(&[("origin", origin)]), "{origin}");
        }
    }

    proptest! {
        /// An allowed authority is one of the names, with or without a port of digits.
        #[test]
        fn only_names_of_the_list_pass(host in "[a-z0-9.:\\[\\]@]{0,24}") {
            let name = host.rsplit_once(':').filter(|(_, port)| {
                !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
            }).map_or(&*host, |(name, _)| name);
            let known = ["localhost", "127.0.0.1", "[::1]", "10.0.0.7", "edge.example"];
            prop_assert_eq!(allows(&host), known.contains(&name));
        }
    }
}
