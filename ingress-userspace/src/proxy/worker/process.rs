//! What flags say about clients and idle connections, with what the operator's ConfigMap says in place
//! of them. New connections are served by the newest; those that are open keep what they began with.

use std::time::Duration;

use http::HeaderName;
use ingress_core::ir::ProcessSettings;

use crate::proxy::runtime::client_policy::{ClientPolicy, ForwardedFor};
use crate::proxy::runtime::limits::{IdleTimeouts, Timeouts};

/// The policy of the flags, changed as the ConfigMap says.
pub(crate) fn policy(flags: &ClientPolicy, settings: &ProcessSettings) -> ClientPolicy {
    let ProcessSettings {
        trusted,
        use_forwarded_headers,
        forwarded_for,
        compute_full_forwarded_for,
        use_proxy_protocol,
        ..
    } = settings;
    let mut policy = flags.clone();
    if let Some(trusted) = trusted {
        policy.trusted = trusted.to_vec();
    }
    if let Some(is_full) = compute_full_forwarded_for {
        policy.passed_on = if *is_full {
            ForwardedFor::All
        } else {
            ForwardedFor::Client
        };
    }
    let name = forwarded_for.as_ref();
    if let Some(name) = name.and_then(|name| HeaderName::try_from(&**name).ok()) {
        policy.forwarded_for = name;
    }
    policy.use_forwarded_headers = use_forwarded_headers.unwrap_or(policy.use_forwarded_headers);
    policy.use_proxy_protocol = use_proxy_protocol.unwrap_or(policy.use_proxy_protocol);
    policy
}

/// The timeouts of the flags, changed as the ConfigMap says.
pub(crate) fn timeouts(flags: Timeouts, settings: &ProcessSettings) -> IdleTimeouts {
    let or = |seconds: Option<u32>, flag: Duration| {
        seconds.map_or(flag, |seconds| Duration::from_secs(seconds.into()))
    };
    let flags = IdleTimeouts::of(flags);
    IdleTimeouts {
        proxy_header: or(settings.proxy_header_timeout, flags.proxy_header),
        request_head: or(settings.keep_alive, flags.request_head),
        upstream_idle: or(settings.upstream_keep_alive, flags.upstream_idle),
    }
}
