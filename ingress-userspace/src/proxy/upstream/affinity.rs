//! Sessions: a cookie of ours leads a client's requests to the endpoint that it had before.
//!
//! The cookie holds 64 bits in hexadecimal: a point of the backend's ring (balanced), or the hash
//! of an endpoint's address (persistent). Where canaries share a rule, a bar and the hash of the
//! backend's name follow, so that a client stays with the canary, or with the main backend. A client
//! that makes a cookie up chooses an endpoint and no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{COOKIE, HeaderMap, USER_AGENT};
use ingress_core::balance::hash_of_address;
use ingress_core::ir::{Affinity, AffinityMode};

use crate::proxy::runtime::context::Runtime;
use crate::proxy::table::slot::{BackendHandle, CanaryRoute, RouteExtras};
use crate::proxy::upstream::pool::Backend;

/// The session of one request.
pub(crate) struct Session {
    affinity: Arc<Affinity>,
    /// What the client's cookie says; for a new balanced session, what it will say.
    pub(crate) value: Option<u64>,
    is_new: bool,
    /// The Path of a cookie that has none of its own, unless it is `/`.
    rule_path: Option<Arc<str>>,
    /// Whether the cookie names the backend.
    names_backend: bool,
    understands_same_site_none: bool,
    /// Where it has to go, if that is there.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl Session {
    /// The session of a request, if its backend has any.
    pub(crate) fn of(
        backend: &Backend,
        headers: &HeaderMap,
        extras: Option<&RouteExtras>,
        runtime: &Runtime,
    ) -> Option<Self> {
        let affinity = Arc::clone(backend.affinity()?);
        let names_backend = extras.is_some_and(|extras| extras.has_canaries);
        let shown = cookie(headers, &affinity.cookie);
        let value = shown.map(|shown| shown.value);
        let is_elsewhere = shown.is_some_and(|shown| shown.backend != Some(backend.tag()));
        let found = value.and_then(|value| backend.session_endpoint(affinity.mode, value));
        let is_asked = affinity.same_site_none_if_understood;
        let mut session = Self {
            value,
            is_new: found.is_none() || names_backend && is_elsewhere,
            rule_path: extras.and_then(|extras| extras.cookie_path.clone()),
            names_backend,
            understands_same_site_none: is_asked && understands_same_site_none(headers),
            endpoint: found,
            affinity,
        };
        if found.is_none() && session.affinity.mode == AffinityMode::Balanced {
            let begun = backend.new_session(|| runtime.random(), runtime.timers.now());
            session.value = begun.map(|(value, _)| value);
            session.endpoint = begun.map(|(_, endpoint)| endpoint);
        }
        Some(session)
    }

    /// The cookie that the client has to be given, now that this endpoint has answered.
    pub(crate) fn cookie(
        &self,
        backend: &Backend,
        answered: SocketAddr,
        is_https: bool,
        now: SystemTime,
    ) -> Option<HeaderValue> {
        let has_moved = self.endpoint.is_some_and(|endpoint| endpoint != answered);
        let is_told = self.is_new || has_moved && self.affinity.change_on_failure;
        if !is_told {
            return None;
        }
        let value = match self.affinity.mode {
            AffinityMode::Persistent => hash_of_address(answered),
            AffinityMode::Balanced if has_moved => backend.session_of(answered)?,
            AffinityMode::Balanced => self.value?,
        };
        let Affinity {
            cookie,
            path,
            attributes,
            expires,
            secure_over_https,
            same_site_none_if_understood: _,
            mode: _,
            change_on_failure: _,
        } = &*self.affinity;
        let name = if self.names_backend {
            format!("|{:016x}", backend.tag())
        } else {
            String::new()
        };
        let secure = if *secure_over_https && is_https {
            "; Secure"
        } else {
            ""
        };
        let same_site = if self.understands_same_site_none {
            "; SameSite=None"
        } else {
            ""
        };
        let expires = expires.map_or_else(String::new, |seconds| {
            let time = now + Duration::from_secs(u64::from(seconds));
            format!("; Expires={}", httpdate::fmt_http_date(time))
        });
        let path = path.as_deref().or(self.rule_path.as_deref());
        let path = path.unwrap_or("/");
        let text = format!(
            "{cookie}={value:016x}{name}; Path={path}{attributes}{same_site}{secure}{expires}"
        );
        HeaderValue::try_from(text).ok()
    }
}

/// The backend that a client's session is with, of a rule with canaries, if there is a session. A
/// cookie that names no backend began before there were canaries.
///
/// Source: ingress-nginx: a session counts more than the fields and weights of canaries.
pub(crate) fn session_backend<'a>(
    route: &'a CanaryRoute,
    headers: &HeaderMap,
) -> Option<&'a Arc<BackendHandle>> {
    let shown = |slot: &BackendHandle| {
        let affinity = slot.key.policy.affinity.as_ref()?;
        cookie(headers, &affinity.cookie)
    };
    let main = &route.main;
    if shown(main).is_some_and(|shown| shown.backend.is_none_or(|tag| tag == main.tag)) {
        return Some(main);
    }
    let mut canaries = route.canaries.iter().map(|(_, slot)| slot);
    canaries.find(|slot| shown(slot).is_some_and(|shown| shown.backend == Some(slot.tag)))
}

/// What a cookie of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shown {
    value: u64,
    /// The hash of a backend's name.
    backend: Option<u64>,
}

/// A cookie of ours; anything else is as good as none.
fn cookie(headers: &HeaderMap, name: &str) -> Option<Shown> {
    let lines = headers.get_all(COOKIE).iter();
    let mut cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies.find_map(|cookie| {
        let value = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
        let value = std::str::from_utf8(value.strip_prefix(b"=")?).ok()?;
        Some(match value.split_once('|') {
            None => Shown {
                value: number(value)?,
                backend: None,
            },
            Some((value, backend)) => Shown {
                value: number(value)?,
                backend: Some(number(backend)?),
            },
        })
    })
}

fn number(digits: &str) -> Option<u64> {
    let is_ours = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Whether a client takes `SameSite=None` for what it is, and neither refuses the cookie nor takes it
/// for `Strict`.
///
/// Source: chromium.org, "SameSite=None: Known Incompatible Clients".
fn understands_same_site_none(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT);
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    let version = |of: &str| {
        let (_, rest) = agent.split_once(of)?;
        let end = rest.find(|one: char| !one.is_ascii_digit() && one != '.');
        let mut parts = rest[..end.unwrap_or(rest.len())].split('.');
        let mut part = || parts.next().and_then(|part| part.parse::<u32>().ok());
        Some([part()?, part().unwrap_or(0), part().unwrap_or(0)])
    };
    let is_ios_12 = agent.contains("CPU iPhone OS 12_") || agent.contains("CPU OS 12_");
    let is_mac_10_14 = agent.contains("Macintosh; ") && agent.contains("Mac OS X 10_14");
    let is_safari = agent.contains("Version/") && !agent.contains("Chrom");
    let is_embedded = agent.ends_with("(KHTML, like Gecko)");
    let is_old_uc = version("UCBrowser/").is_some_and(|version| version < [12, 13, 2]);
    let is_uc = agent.contains("UCBrowser/");
    let chrome = version("Chrome/").or_else(|| version("Chromium/"));
    let is_old_chrome = chrome.is_some_and(|[major, ..]| (51..67).contains(&major));
    let is_refused = is_ios_12
        || is_mac_10_14 && (is_safari || is_embedded)
        || is_old_uc
        || is_old_chrome && !is_uc;
    !is_refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cookie_of_ours_is_one() {
        for (line, value) in [
            ("a=1; S=00000000000000ff; b=2", Some((255, None))),
            ("S=00000000000000FF", Some((255, None))),
            ("S=zz; S=0000000000000001", Some((1, None))),
            ("S=0000000000000001|0000000000000002", Some((1, Some(2)))),
            ("S=0000000000000001|2", None),
            ("S=0000000000000001|", None),
            ("XS=0000000000000001", None),
            ("S=1", None),
            ("S=+000000000000001", None),
            ("S", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(line));
            let shown = cookie(&headers, "S").map(|shown| (shown.value, shown.backend));
            assert_eq!(shown, value, "{line}");
        }
    }

    #[test]
    fn same_site_none_is_kept_from_clients_that_refuse_it() {
        let understands = |agent: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            understands_same_site_none(&headers)
        };
        for agent in [
            "Mozilla/5.0 (iPhone; CPU iPhone OS 12_4 like Mac OS X) AppleWebKit/605.1.15 Version/12.1",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/12.1 Safari/605.1.15",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/66.0.3359.139 Safari/537.36",
            "Mozilla/5.0 (Linux; U; Android 8) Chrome/57.0.2987 UCBrowser/12.13.1.1189 Mobile",
        ] {
            assert!(!understands(agent), "{agent}");
        }
        for agent in [
            "",
            "curl/8",
            "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/67.0.3396.62 Safari/537.36",
            "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_14_6) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/80.0 Safari/537.36",
            "Mozilla/5.0 (Linux; U; Android 8) Chrome/57.0.2987 UCBrowser/12.13.2.1208 Mobile",
        ] {
            assert!(understands(agent), "{agent}");
        }
    }
}
