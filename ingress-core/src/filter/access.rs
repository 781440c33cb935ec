//! Lets only clients of some networks in.
//!
//! Source: ingress-nginx, annotations `allowlist-source-range` and `denylist-source-range`.

use http::StatusCode;

use super::{Answer, Context, Decision};
use crate::ir::{AccessList, Denial};

pub(super) fn on_request(list: &AccessList, context: &Context<'_>) -> Decision {
    if list.admits(context.client) {
        return Decision::Continue;
    }
    match list.denial {
        Denial::Forbidden => Decision::Respond(Answer::status(StatusCode::FORBIDDEN)),
        Denial::Close => Decision::Close,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::HeaderMap;

    use super::*;

    fn admits(allow: Option<&[&str]>, deny: &[&str], client: &str) -> bool {
        let networks = |all: &[&str]| all.iter().map(|one| one.parse().unwrap()).collect();
        let list = AccessList {
            allow: allow.map(networks),
            deny: networks(deny),
            denial: Denial::Forbidden,
        };
        let context = Context {
            is_https: false,
            method: "GET",
            headers: &HeaderMap::new(),
            authority: "",
            path: b"/",
            target: b"/",
            client: client.parse::<IpAddr>().unwrap(),
        };
        on_request(&list, &context) == Decision::Continue
    }

    #[test]
    fn denied_networks_are_refused_before_allowed_ones() {
        assert!(admits(None, &[], "10.0.0.1"));
        assert!(admits(Some(&["10.0.0.0/8"]), &[], "10.0.0.1"));
        assert!(admits(Some(&["10.0.0.0/8"]), &[], "::ffff:10.0.0.1"));
        assert!(!admits(Some(&["10.0.0.0/8"]), &[], "11.0.0.1"));
        assert!(!admits(Some(&["10.0.0.0/8"]), &["10.0.0.1/32"], "10.0.0.1"));
        assert!(!admits(None, &["fd00::/8"], "fd00::1"));
        assert!(!admits(Some(&[]), &[], "10.0.0.1"));
    }
}
