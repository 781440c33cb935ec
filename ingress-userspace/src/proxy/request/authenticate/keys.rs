//! Sets of keys that sign tokens (RFC 7517), as tokens are verified with them.

use jsonwebtoken::jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::documents::Document;

/// The keys of an issuer.
#[derive(Debug, Default)]
pub(super) struct KeySet(Vec<Key>);

#[derive(Debug)]
struct Key {
    id: Option<Box<str>>,
    algorithm: Option<KeyAlgorithm>,
    verifier: DecodingKey,
}

/// Why a document has no keys.
#[derive(Debug, Error)]
pub(super) enum KeySetError {
    #[error("it is not a set of keys")]
    Syntax(#[from] serde_json::Error),
    #[error("the set has no key that a token can be verified with")]
    Empty,
}

impl Document for KeySet {
    const NAME: &'static str = "the keys of tokens";
    const MEDIA_TYPES: &'static str = "application/jwk-set+json, application/json";
    type Error = KeySetError;

    fn read(text: &[u8]) -> Result<Self, KeySetError> {
        let set = Self::parse(text)?;
        if set.0.is_empty() {
            return Err(KeySetError::Empty);
        }
        Ok(set)
    }
}

impl KeySet {
    /// Reads a set. Keys that no token can be verified with are left out, as RFC 7517 §5 asks for, and
    /// so are secrets: a set is public.
    ///
    /// # Errors
    ///
    /// An error if it is no set.
    pub(super) fn parse(text: &[u8]) -> Result<Self, serde_json::Error> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let set: Set = serde_json::from_slice(text)?;
        let keys = set.keys.into_iter().filter_map(Key::of).take(KEYS_MAX);
        Ok(Self(keys.collect()))
    }

    /// The keys that may have signed a token with this algorithm and `kid`.
    pub(super) fn candidates(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
    ) -> impl Iterator<Item = &DecodingKey> {
        let keys = self.0.iter().filter(move |key| {
            let is_named = match (id, &key.id) {
                (Some(id), Some(of_key)) => id == &**of_key,
                (None, _) | (_, None) => true,
            };
            let is_for = key
                .algorithm
                .is_none_or(|of_key| of_key == algorithm.into());
            is_named && is_for && key.verifier.family() == algorithm.family()
        });
        keys.map(|key| &key.verifier).take(CANDIDATES_MAX)
    }
}

impl Key {
    fn of(value: Value) -> Option<Self> {
        let key: Jwk = serde_json::from_value(value).ok()?;
        let is_public = matches!(
            key.algorithm,
            AlgorithmParameters::RSA(_)
                | AlgorithmParameters::EllipticCurve(_)
                | AlgorithmParameters::OctetKeyPair(_)
        );
        let signs = matches!(
            key.common.public_key_use,
            None | Some(PublicKeyUse::Signature)
        );
        if !is_public || !signs {
            return None;
        }
        Some(Self {
            verifier: DecodingKey::from_jwk(&key).ok()?,
            id: key.common.key_id.map(String::into_boxed_str),
            algorithm: key.common.key_algorithm,
        })
    }
}

/// Keys of a set; further ones are left out.
const KEYS_MAX: usize = 64;
/// Keys that a token without a `kid` is tried with.
const CANDIDATES_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_no_token_can_be_verified_with_are_left_out() {
        let set = r#"{"keys": [
            {"kty": "oct", "kid": "secret", "k": "AAAA"},
            {"kty": "RSA", "kid": "encrypts", "use": "enc", "n": "AQAB", "e": "AQAB"},
            {"kty": "new", "kid": "unknown"},
            7,
            {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"},
            {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig", "n": "AQAB", "e": "AQAB"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}
        ]}"#;
        let set = KeySet::parse(set.as_bytes()).unwrap();
        assert_eq!(set.0.len(), 2);
        let count = |algorithm, id| set.candidates(algorithm, id).count();
        assert_eq!(count(Algorithm::RS256, Some("one")), 1);
        assert_eq!(count(Algorithm::RS256, None), 1);
        assert_eq!(count(Algorithm::RS256, Some("two")), 0);
        assert_eq!(
            count(Algorithm::RS384, Some("one")),
            0,
            "the key names RS256"
        );
        assert_eq!(count(Algorithm::ES256, Some("any")), 1, "it has no name");
        assert_eq!(count(Algorithm::HS256, Some("one")), 0);
        for text in ["", "[]", "{}", r#"{"keys": 1}"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
