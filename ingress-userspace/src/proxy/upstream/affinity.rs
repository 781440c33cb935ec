//! Sessions: a cookie of ours leads a client's requests to the endpoint that it had before.
//!
//! The cookie holds 64 bits in hexadecimal: a point of the backend's ring (balanced), or the hash
//! of an endpoint's address (persistent). Who makes one up chooses an endpoint and no more.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use http::header::{COOKIE, HeaderMap};
use ingress_core::balance::hash_of_address;
use ingress_core::ir::{Affinity, AffinityMode};

use crate::proxy::runtime::context::Runtime;
use crate::proxy::upstream::pool::Backend;

/// The session of one request.
pub(crate) struct Session {
    affinity: Arc<Affinity>,
    /// What the client's cookie says; for a new balanced session, what it will say.
    pub(crate) value: Option<u64>,
    is_new: bool,
    /// Where it has to go, if that is there.
    pub(crate) endpoint: Option<SocketAddr>,
}

impl Session {
    /// The session of a request, if its backend has any.
    pub(crate) fn of(backend: &Backend, headers: &HeaderMap, runtime: &Runtime) -> Option<Self> {
        let affinity = Arc::clone(backend.affinity()?);
        let value = cookie(headers, &affinity.cookie);
        let found = value.and_then(|value| backend.session_endpoint(affinity.mode, value));
        let mut session = Self {
            affinity,
            value,
            is_new: found.is_none(),
            endpoint: found,
        };
        if session.is_new && session.affinity.mode == AffinityMode::Balanced {
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
            attributes,
            expires,
            ..
        } = &*self.affinity;
        let expires = expires.map_or_else(String::new, |seconds| {
            let time = now + Duration::from_secs(u64::from(seconds));
            format!("; Expires={}", httpdate::fmt_http_date(time))
        });
        HeaderValue::try_from(format!("{cookie}={value:016x}{attributes}{expires}")).ok()
    }
}

/// The value of a cookie of ours; anything else is as good as none.
fn cookie(headers: &HeaderMap, name: &str) -> Option<u64> {
    let lines = headers.get_all(COOKIE).iter();
    let mut cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies.find_map(|cookie| {
        let value = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
        let digits = std::str::from_utf8(value.strip_prefix(b"=")?).ok()?;
        let is_ours = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        is_ours.then(|| u64::from_str_radix(digits, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cookie_of_ours_is_one() {
        for (line, value) in [
            ("a=1; S=00000000000000ff; b=2", Some(255)),
            ("S=00000000000000FF", Some(255)),
            ("S=zz; S=0000000000000001", Some(1)),
            ("XS=0000000000000001", None),
            ("S=1", None),
            ("S=+000000000000001", None),
            ("S", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(COOKIE, HeaderValue::from_static(line));
            assert_eq!(cookie(&headers, "S"), value, "{line}");
        }
    }
}
