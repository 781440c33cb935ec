//! Which requests a rule matches; its order is their precedence.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};

/// Which requests a rule matches.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouteMatch {
    /// By their path.
    pub path: PathPattern,
    /// By more than their path. `None`, as for all Ingresses: by the path alone.
    pub conditions: Option<Arc<Conditions>>,
}

impl From<PathPattern> for RouteMatch {
    fn from(path: PathPattern) -> Self {
        Self {
            path,
            conditions: None,
        }
    }
}

impl Ord for RouteMatch {
    /// Precedence, the smaller is tried first: by the path, then a method, then more fields, then
    /// more query parameters.
    ///
    /// Source: Gateway API, `HTTPRouteRule.matches`.
    fn cmp(&self, other: &Self) -> Ordering {
        let weight = |one: &Self| {
            one.conditions.as_ref().map_or((false, 0, 0), |conditions| {
                let Conditions {
                    method,
                    headers,
                    query,
                } = &**conditions;
                (method.is_some(), headers.len(), query.len())
            })
        };
        (self.path.cmp(&other.path))
            .then_with(|| weight(other).cmp(&weight(self)))
            .then_with(|| self.conditions.cmp(&other.conditions))
    }
}

impl PartialOrd for RouteMatch {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a request has to have beside its path.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Conditions {
    /// Its method.
    pub method: Option<Box<str>>,
    /// Fields, by names in lower case.
    pub headers: Box<[ValueMatch]>,
    /// Query parameters.
    pub query: Box<[ValueMatch]>,
}

/// A name with a value.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ValueMatch {
    /// Of the field or parameter.
    pub name: Box<str>,
    /// Byte for byte.
    pub value: Box<str>,
}

/// Which request paths a rule matches, by the bytes of the normalised path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PathPattern {
    /// The whole path, byte for byte.
    Exact(Arc<str>),
    /// Whole elements from the start, split by `/`; kept without a trailing slash, so that the
    /// root prefix is the empty text.
    Prefix(Arc<str>),
    /// A regular expression at the start of the path.
    Regex(Arc<PathRegex>),
}

impl PathPattern {
    /// A prefix without its trailing slashes, which mean nothing: `/foo/` and `/foo` are one
    /// pattern.
    pub fn prefix(text: &str) -> Self {
        Self::Prefix(text.trim_end_matches('/').into())
    }

    /// What [`prefix`](Self::prefix) gives; shares the text where that has no trailing slash.
    pub fn prefix_sharing(text: &Arc<str>) -> Self {
        if text.ends_with('/') {
            Self::prefix(text)
        } else {
            Self::Prefix(Arc::clone(text))
        }
    }

    /// Whether a normalised request path is matched.
    ///
    /// Source: the Kubernetes Ingress documentation, "Path types".
    pub fn matches(&self, path: impl AsRef<[u8]>) -> bool {
        let path = path.as_ref();
        match self {
            Self::Exact(text) => text.as_bytes() == path,
            Self::Prefix(text) => path
                .strip_prefix(text.as_bytes())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/")),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    /// The pattern's text: what a matching path starts with, or the expression.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Exact(text) | Self::Prefix(text) => text,
            Self::Regex(regex) => regex.as_str(),
        }
    }

    /// Among patterns of one length: `Exact` before the others.
    fn rank(&self) -> u8 {
        match self {
            Self::Exact(_) => 0,
            Self::Prefix(_) => 1,
            Self::Regex(_) => 2,
        }
    }
}

impl Ord for PathPattern {
    /// Precedence, the smaller is tried first: the longer, then `Exact`; the text makes it total.
    /// Expressions of one length are tried in descending order of their text, as ingress-nginx
    /// sorts locations.
    fn cmp(&self, other: &Self) -> Ordering {
        let (text, other_text) = (self.as_str(), other.as_str());
        (other_text.len().cmp(&text.len()))
            .then_with(|| self.rank().cmp(&other.rank()))
            .then_with(|| match self {
                Self::Exact(_) | Self::Prefix(_) => text.cmp(other_text),
                Self::Regex(_) => other_text.cmp(text),
            })
    }
}

impl PartialOrd for PathPattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "= {text}"),
            Self::Prefix(text) if text.is_empty() => f.write_str("/"),
            Self::Prefix(text) => f.write_str(text),
            Self::Regex(regex) => write!(f, "~* ^{}", regex.as_str()),
        }
    }
}

/// A regular expression for paths: without regard to case, over bytes, in linear time.
#[derive(Clone, Debug)]
pub struct PathRegex {
    text: Arc<str>,
    anchored: Regex,
    anywhere: Regex,
}

impl PathRegex {
    /// Compiles an expression.
    ///
    /// Source: ingress-nginx writes `location ~* "^PATH"` and `rewrite "(?i)PATH" TARGET`.
    ///
    /// # Errors
    ///
    /// Returns a message for its author if the expression is malformed, too large, or has lookaround or
    /// backreferences, which take more than linear time.
    pub fn new(text: &Arc<str>) -> Result<Self, String> {
        let build = |pattern: &str| {
            RegexBuilder::new(pattern)
                .case_insensitive(true)
                .unicode(false)
                .size_limit(REGEX_BYTES_MAX)
                .dfa_size_limit(REGEX_BYTES_MAX)
                .build()
        };
        let reason = |error: regex::Error| {
            if let regex::Error::CompiledTooBig(_) = error {
                return "is too large a regular expression".to_owned();
            }
            let text = error.to_string();
            let last = text.lines().last().unwrap_or_default();
            format!(
                "is not a regular expression: {}",
                last.trim_start_matches("error: ")
            )
        };
        Ok(Self {
            anchored: build(&format!("^{text}")).map_err(reason)?,
            anywhere: build(text).map_err(reason)?,
            text: Arc::clone(text),
        })
    }

    /// The expression as the object spells it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it matches at the start of a path.
    pub fn is_match(&self, path: &[u8]) -> bool {
        self.anchored.is_match(path)
    }

    /// Its first match anywhere in a path.
    pub fn captures<'a>(&self, path: &'a [u8]) -> Option<regex::bytes::Captures<'a>> {
        self.anywhere.captures(path)
    }

    /// How many groups it has, the whole match not counted.
    pub fn groups(&self) -> usize {
        self.anywhere.captures_len() - 1
    }
}

impl PartialEq for PathRegex {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for PathRegex {}

impl Hash for PathRegex {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

/// Bytes of a compiled expression.
const REGEX_BYTES_MAX: usize = 256 << 10;
