//! Keys of the operator's ConfigMap that concern the process and take effect at once.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderName;
use ipnet::IpNet;

use super::{Settings, boolean};
use crate::ir::ProcessSettings;

/// Source: ingress-nginx, ConfigMap key `proxy-real-ip-cidr`.
pub(super) fn trusted(value: &str, settings: &mut Settings) -> Result<(), String> {
    let network = |text: &str| {
        let text = text.trim();
        let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
        text.parse::<IpNet>().ok().or_else(address)
    };
    let networks: Option<Box<[IpNet]>> = value.split(',').map(network).collect();
    let networks = networks.ok_or_else(|| format!("`{value}` is not a list of networks; ignored"));
    of(settings).trusted = Some(networks?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `use-forwarded-headers`.
pub(super) fn use_forwarded_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    of(settings).use_forwarded_headers = Some(boolean(value)?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `forwarded-for-header`.
pub(super) fn forwarded_for(value: &str, settings: &mut Settings) -> Result<(), String> {
    let name = HeaderName::from_bytes(value.trim().as_bytes());
    let name = name.map_err(|_| format!("`{value}` is not the name of a field; ignored"))?;
    of(settings).forwarded_for = Some(name.as_str().into());
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `compute-full-forwarded-for`.
pub(super) fn compute_full_forwarded_for(
    value: &str,
    settings: &mut Settings,
) -> Result<(), String> {
    of(settings).compute_full_forwarded_for = Some(boolean(value)?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `use-proxy-protocol`.
pub(super) fn use_proxy_protocol(value: &str, settings: &mut Settings) -> Result<(), String> {
    of(settings).use_proxy_protocol = Some(boolean(value)?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `proxy-protocol-header-timeout`: `5` or `5s`.
pub(super) fn proxy_header_timeout(value: &str, settings: &mut Settings) -> Result<(), String> {
    of(settings).proxy_header_timeout = Some(seconds(value)?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `keep-alive`.
pub(super) fn keep_alive(value: &str, settings: &mut Settings) -> Result<(), String> {
    of(settings).keep_alive = Some(seconds(value)?);
    Ok(())
}

/// Source: ingress-nginx, ConfigMap key `upstream-keepalive-timeout`.
pub(super) fn upstream_keep_alive(value: &str, settings: &mut Settings) -> Result<(), String> {
    of(settings).upstream_keep_alive = Some(seconds(value)?);
    Ok(())
}

fn of(settings: &mut Settings) -> &mut ProcessSettings {
    Arc::make_mut(&mut settings.process)
}

fn seconds(value: &str) -> Result<u32, String> {
    let value = value.trim();
    let number = value.strip_suffix('s').unwrap_or(value).parse().ok();
    let number = number.filter(|seconds| (1..=SECONDS_MAX).contains(seconds));
    number.ok_or_else(|| format!("`{value}` is not a number of seconds from 1; ignored"))
}

/// A day: what is idle for longer has gone.
const SECONDS_MAX: u32 = 86_400;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{of_class, of_controller};
    use super::*;

    fn parameters(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        all.iter().map(owned).collect()
    }

    fn read(all: &[(&str, &str)]) -> (Arc<ProcessSettings>, usize) {
        let (settings, mistakes) =
            of_controller(Settings::default(), &parameters(all), &BTreeSet::new());
        (settings.process, mistakes.len())
    }

    #[test]
    fn keys_of_the_process_are_read_from_the_configuration_of_the_controller_only() {
        let all = [
            ("proxy-real-ip-cidr", "10.0.0.0/8, 192.0.2.1"),
            ("use-forwarded-headers", "true"),
            ("forwarded-for-header", "CF-Connecting-IP"),
            ("compute-full-forwarded-for", "1"),
            ("use-proxy-protocol", "false"),
            ("proxy-protocol-header-timeout", "3s"),
            ("keep-alive", "20"),
            ("upstream-keepalive-timeout", "30"),
        ];
        let (settings, mistakes) = read(&all);
        assert_eq!(mistakes, 0);
        let networks = ["10.0.0.0/8", "192.0.2.1/32"].map(|text| text.parse().unwrap());
        let expected = ProcessSettings {
            trusted: Some(networks.into()),
            use_forwarded_headers: Some(true),
            forwarded_for: Some("cf-connecting-ip".into()),
            compute_full_forwarded_for: Some(true),
            use_proxy_protocol: Some(false),
            proxy_header_timeout: Some(3),
            keep_alive: Some(20),
            upstream_keep_alive: Some(30),
        };
        assert_eq!(*settings, expected);
        let (settings, mistakes) =
            of_class(Settings::default(), &parameters(&all), &BTreeSet::new());
        assert_eq!(*settings.process, ProcessSettings::default());
        assert_eq!(mistakes.len(), all.len());
    }

    #[test]
    fn invalid_values_leave_the_flags_in_force() {
        for (key, value) in [
            ("proxy-real-ip-cidr", "10.0.0.0/33"),
            ("proxy-real-ip-cidr", ""),
            ("use-forwarded-headers", "yes"),
            ("forwarded-for-header", "a b"),
            ("compute-full-forwarded-for", ""),
            ("use-proxy-protocol", "v2"),
            ("proxy-protocol-header-timeout", "5m"),
            ("keep-alive", "0"),
            ("upstream-keepalive-timeout", "-1"),
            ("worker-processes", "4"),
        ] {
            let (settings, mistakes) = read(&[(key, value)]);
            assert_eq!(*settings, ProcessSettings::default(), "{key}: {value}");
            assert_eq!(mistakes, 1, "{key}: {value}");
        }
    }
}
