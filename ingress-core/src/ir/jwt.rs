//! Access to a route by JSON Web Tokens (RFC 7519).

use std::fmt;
use std::sync::Arc;

/// The tokens that let a client in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtAuth {
    /// The keys that sign them.
    pub keys: JwtKeys,
    /// `iss` has to be this, if it is given.
    pub issuer: Option<Arc<str>>,
    /// `aud` has to name one of these, unless there is none.
    pub audiences: Box<[Box<str>]>,
    /// The algorithms that they may be signed by. Never empty.
    pub algorithms: Box<[JwtAlgorithm]>,
    /// Seconds by which clocks may differ.
    pub leeway: u32,
    /// The cookie that holds the token of a client without a Bearer token.
    pub cookie: Option<Arc<str>>,
    /// Claims, and the fields of the request, in lower case, that tell the endpoint of them.
    pub fields: Box<[(Box<str>, Box<str>)]>,
}

/// Where keys come from: a JSON Web Key Set (RFC 7517).
#[derive(Clone, PartialEq, Eq)]
pub enum JwtKeys {
    /// It is fetched from here: an absolute `http` or `https` URL.
    Url(Arc<str>),
    /// This is it. Empty until its object is read: no token passes.
    Set(Arc<str>),
}

impl fmt::Debug for JwtKeys {
    /// Whoever writes a set of keys may have written private ones: they must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => write!(f, "Url({url})"),
            Self::Set(set) => write!(f, "Set({} bytes)", set.len()),
        }
    }
}

/// How tokens may be signed (RFC 7518 §3.1, RFC 8037). All have a public key: `none` is no signature,
/// and a key of HMAC would let everybody who verifies tokens make them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the RFC")]
pub enum JwtAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in the header of a token.
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }
}
