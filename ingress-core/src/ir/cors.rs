//! Cross-origin requests (the Fetch standard, "HTTP extensions").

use std::sync::Arc;

/// The CORS fields of responses: which other origins may send which requests.
///
/// Source: ingress-nginx, annotations `enable-cors` and `cors-*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins that are answered.
    pub origins: CorsOrigins,
    /// Access-Control-Allow-Methods.
    pub methods: Arc<str>,
    /// Access-Control-Allow-Headers.
    pub headers: Arc<str>,
    /// Access-Control-Expose-Headers.
    pub exposed: Option<Arc<str>>,
    /// Whether Access-Control-Allow-Credentials is `true`.
    pub credentials: bool,
    /// Access-Control-Max-Age, in seconds.
    pub max_age: u32,
}

/// Origins that are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// All, as `*`.
    Any,
    /// These.
    Listed(Box<[OriginPattern]>),
}

/// One origin, or all with one label more: `https://*.a.test`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginPattern {
    /// The text before the wildcard label, in lower case; the whole origin if there is no wildcard.
    pub before: Box<str>,
    /// The text after the wildcard label.
    pub after: Option<Box<str>>,
}

impl CorsOrigins {
    /// Whether an origin, as a browser sends it, is one of these.
    pub fn admit(&self, origin: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(patterns) => patterns.iter().any(|pattern| pattern.matches(origin)),
        }
    }
}

impl OriginPattern {
    fn matches(&self, origin: &[u8]) -> bool {
        let Some(after) = &self.after else {
            return origin.eq_ignore_ascii_case(self.before.as_bytes());
        };
        let lower = origin.to_ascii_lowercase();
        let label = lower
            .strip_prefix(self.before.as_bytes())
            .and_then(|rest| rest.strip_suffix(after.as_bytes()));
        let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
        label.is_some_and(|label| !label.is_empty() && label.iter().all(is_part))
    }
}
