//! What the cookie of a session holds, before it is encrypted: nothing but what requests are decided by.

/// A user who has logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Its end, in seconds since 1970.
    pub expires: u64,
    /// Whether the user is in a group that is let in.
    pub is_member: bool,
    /// The claims that the endpoint is told of, in the order of the Ingress.
    pub claims: Vec<Option<Box<str>>>,
}

impl Session {
    /// The bytes of a session; `None` if it does not fit.
    ///
    /// The version, the end, membership, and the claims, each with its length in front.
    pub fn encode(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.expires.to_be_bytes());
        bytes.push(self.is_member.into());
        for claim in &self.claims {
            let text = claim.as_deref().unwrap_or_default();
            let length = u16::try_from(text.len())
                .ok()
                .filter(|length| *length < NONE)?;
            let length = if claim.is_some() { length } else { NONE };
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        (bytes.len() <= SESSION_BYTES_MAX).then_some(bytes)
    }

    /// Reads what [`encode`](Self::encode) has written, and nothing else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (is_member, mut rest) = rest.split_first()?;
        if *version != VERSION || *is_member > 1 || bytes.len() > SESSION_BYTES_MAX {
            return None;
        }
        let mut claims = Vec::new();
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk()?;
            let length = u16::from_be_bytes(*length);
            if length == NONE {
                claims.push(None);
                rest = after;
                continue;
            }
            let (text, after) = after.split_at_checked(length.into())?;
            claims.push(Some(std::str::from_utf8(text).ok()?.into()));
            rest = after;
        }
        Some(Self {
            expires: u64::from_be_bytes(*expires),
            is_member: *is_member == 1,
            claims,
        })
    }
}

const VERSION: u8 = 1;
/// The length of a claim that the token does not have.
const NONE: u16 = u16::MAX;
/// As many bytes as fit into a cookie, encrypted and in base64, beside its name.
const SESSION_BYTES_MAX: usize = 2960;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::oidc::cookie;

    fn session(claims: &[Option<&str>]) -> Session {
        Session {
            expires: 4_102_444_800,
            is_member: true,
            claims: claims.iter().map(|claim| claim.map(Into::into)).collect(),
        }
    }

    #[test]
    fn sessions_that_do_not_fit_into_a_cookie_are_refused() {
        let long = "x".repeat(SESSION_BYTES_MAX - 12);
        let bytes = session(&[Some(&long)]).encode().unwrap();
        // A nonce of 12 bytes and a tag of 16 (RFC 8452), in base64 without padding.
        let value = (bytes.len() + 28).div_ceil(3) * 4;
        let name = cookie::session_name(&"0".repeat(32), true);
        assert!(name.len() + value <= cookie::BYTES_MAX, "{value}");
        assert_eq!(session(&[Some(&long), None]).encode(), None);
        assert_eq!(session(&[Some(&"x".repeat(70_000))]).encode(), None);
    }

    proptest! {
        #[test]
        fn sessions_are_read_as_they_were_written(
            expires: u64,
            is_member: bool,
            claims in prop::collection::vec(prop::option::of(".{0,40}"), 0..8),
        ) {
            let claims = claims.into_iter().map(|claim| claim.map(String::into_boxed_str));
            let session = Session { expires, is_member, claims: claims.collect() };
            let bytes = session.encode().unwrap();
            prop_assert_eq!(Session::decode(&bytes), Some(session));
            for end in 0..bytes.len().min(10) {
                prop_assert_eq!(Session::decode(&bytes[..end]), None);
            }
        }

        #[test]
        fn bytes_are_a_session_only_if_it_is_written_so(bytes: Vec<u8>) {
            if let Some(session) = Session::decode(&bytes) {
                prop_assert_eq!(session.encode(), Some(bytes));
            }
        }
    }
}
