//! The key that opens a WebSocket over HTTP/1.1, and the proof that an endpoint has seen it.
//!
//! Over HTTP/2 a WebSocket is opened without either (RFC 8441 §5), so between a client that speaks
//! it and an endpoint that does not, the key is ours.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as STANDARD;
use http::HeaderValue;

/// What an endpoint answers to a key (RFC 6455 §4.2.2).
#[derive(Debug, PartialEq, Eq)]
pub struct Accept(HeaderValue);

impl Accept {
    /// The proof for a key.
    pub fn of(key: &HeaderValue) -> Self {
        let mut digest = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        digest.update(key.as_bytes());
        digest.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        Self(base64(digest.finish().as_ref()))
    }

    /// Returns true if an endpoint has answered with it.
    pub fn is_met_by(&self, proof: Option<&HeaderValue>) -> bool {
        proof == Some(&self.0)
    }
}

impl From<Accept> for HeaderValue {
    fn from(accept: Accept) -> Self {
        accept.0
    }
}

/// A key made of these random bytes.
pub fn key(random: [u8; 16]) -> HeaderValue {
    base64(&random)
}

/// RFC 4648 §4.
fn base64(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(bytes)).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proof_is_that_of_the_rfc() {
        let key = key(*b"the sample nonce");
        assert_eq!(key, "dGhlIHNhbXBsZSBub25jZQ==");
        let proof = HeaderValue::from_static("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(Accept::of(&key).is_met_by(Some(&proof)));
        assert!(!Accept::of(&key).is_met_by(None));
    }
}
