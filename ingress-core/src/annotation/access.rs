//! Networks of clients, by ingress-nginx's names: `allowlist-source-range` (also
//! `whitelist-source-range`) and `denylist-source-range`. What other clients get is a key of ours.
//!
//! Invariant: a list that cannot be read lets nobody in.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Settings;
use crate::ir::Denial;

/// Source: ingress-nginx, annotation `allowlist-source-range`.
pub(super) fn allow(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.access.allow = Some(networks(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `denylist-source-range`.
pub(super) fn deny(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.access.deny = networks(value)?;
    Ok(())
}

/// What clients get that may not pass, with nginx's 444 as the model of `close`.
pub(super) fn deny_answer(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.access.denial = match value.trim() {
        "403" => Denial::Forbidden,
        "close" => Denial::Close,
        _ => return Err(format!("`{value}` is not one of 403, close; ignored")),
    };
    Ok(())
}

/// Networks or addresses with commas between them.
pub(super) fn networks(value: &str) -> Result<Box<[IpNet]>, String> {
    let networks: Result<Box<[IpNet]>, String> = value
        .split(',')
        .map(str::trim)
        .filter(|network| !network.is_empty())
        .map(network)
        .collect();
    let networks = networks?;
    if networks.is_empty() {
        return Err("has no network".to_owned());
    }
    Ok(networks)
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().ok();
    let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or_else(|| format!("`{text}` is not an address or a network"))?;
    Ok(network.trunc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_as_ingress_nginx_reads_them() {
        let read = |value: &str| {
            networks(value).map(|networks| {
                let texts: Vec<_> = networks.iter().map(IpNet::to_string).collect();
                texts.join(" ")
            })
        };
        let all = Ok("10.0.0.0/8 192.0.2.1/32 fd00::/8".to_owned());
        assert_eq!(read("10.1.0.0/8, 192.0.2.1,fd00::1/8,"), all);
        for wrong in [
            "",
            ",",
            "10.0.0.0/33",
            "10.0.0.1, office",
            "10.0.0.0/8 fd00::/8",
        ] {
            read(wrong).unwrap_err();
        }
    }
}
