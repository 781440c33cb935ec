//! Host names as an Ingress rule, an SNI extension or an authority spells them.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// A DNS host name in lower case without a trailing dot and without a port (RFC 1123, at most
/// 253 bytes).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Host(Arc<str>);

impl Host {
    /// Reads a host name; upper case and one trailing dot are accepted and normalised.
    ///
    /// # Errors
    ///
    /// Returns a [`HostError`] for an empty or too long name, an invalid label or an invalid character.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        let text = text.strip_suffix('.').unwrap_or(text);
        if text.is_empty() {
            return Err(HostError::Empty);
        }
        if text.len() > HOST_BYTES_MAX {
            return Err(HostError::TooLong(text.len()));
        }
        for label in text.split('.') {
            check_label(label)?;
        }
        Ok(Self(text.to_ascii_lowercase().into()))
    }

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Host {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which hosts a rule or a certificate is for. `Ord` is precedence: the smaller is tried first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostPattern {
    /// This host only.
    Exact(Host),
    /// Exactly one label before this parent domain: `Wildcard(foo.com)` is `*.foo.com`.
    Wildcard(Host),
    /// Every host.
    Any,
}

impl HostPattern {
    /// Reads the `host` of an Ingress rule or TLS section; an empty text is `Any`.
    ///
    /// Source: the Kubernetes Ingress documentation, "Hostname wildcards".
    ///
    /// # Errors
    ///
    /// Returns a [`HostError`] if the text is neither a host name nor one after `*.`.
    pub fn parse(text: &str) -> Result<Self, HostError> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        match text.strip_prefix("*.") {
            Some(parent) => Host::parse(parent).map(Self::Wildcard),
            None => Host::parse(text).map(Self::Exact),
        }
    }

    /// What [`parse`](Self::parse) gives; shares the text where that is in its normal form already.
    ///
    /// # Errors
    ///
    /// Those of [`parse`](Self::parse).
    pub fn sharing(text: &Arc<str>) -> Result<Self, HostError> {
        Ok(match Self::parse(text)? {
            Self::Exact(host) if host.0 == *text => Self::Exact(Host(Arc::clone(text))),
            pattern @ (Self::Exact(_) | Self::Wildcard(_) | Self::Any) => pattern,
        })
    }

    /// Whether every host of another pattern is a host of this one, as `*.a.test` covers `b.a.test`.
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Wildcard(parent), Self::Exact(host)) => {
                let rest = host.0.split_once('.').map(|(_, rest)| rest);
                rest == Some(&*parent.0)
            }
            _ => self == other,
        }
    }

    /// The text of [`Display`](fmt::Display), shared where there is one to share.
    pub fn to_text(&self) -> Arc<str> {
        match self {
            Self::Exact(host) => Arc::clone(&host.0),
            Self::Wildcard(_) | Self::Any => self.to_string().into(),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => write!(f, "{host}"),
            Self::Wildcard(parent) => write!(f, "*.{parent}"),
            Self::Any => f.write_str("*"),
        }
    }
}

/// Why a text is no host name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HostError {
    /// Nothing but an optional trailing dot.
    #[error("host is empty")]
    Empty,
    /// Longer than DNS allows; the length in bytes.
    #[error("host is {0} bytes long, at most 253 are allowed")]
    TooLong(usize),
    /// A label is empty or longer than 63 bytes.
    #[error("host has an empty label or one of more than 63 bytes")]
    LabelLength,
    /// A character that no host name has; a colon usually means that a port was given.
    #[error("host has the character `{0}`, which no host name has (a port is not allowed)")]
    Character(char),
    /// A label starts or ends with a hyphen.
    #[error("host has a label that starts or ends with a hyphen")]
    Hyphen,
}

fn check_label(label: &str) -> Result<(), HostError> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX {
        return Err(HostError::LabelLength);
    }
    // Underscores are no part of RFC 1123 but are seen in SNI and Host headers.
    let strange = |c: &char| !c.is_ascii_alphanumeric() && *c != '-' && *c != '_';
    if let Some(c) = label.chars().find(strange) {
        return Err(HostError::Character(c));
    }
    if label.starts_with('-') || label.ends_with('-') {
        return Err(HostError::Hyphen);
    }
    Ok(())
}

const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;
