//! What the cookie of a login that is under way holds, before it is encrypted.

/// A login from the redirect to the provider until the user comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Its end, in seconds since 1970.
    pub expires: u64,
    /// Ties the answer of the provider to this browser (RFC 6749 §10.12).
    pub state: [u8; 16],
    /// Ties the ID token to this login (OpenID Connect Core 1.0 §3.1.2.1).
    pub nonce: [u8; 16],
    /// Proves to the provider that the code comes from who asked for it (RFC 7636).
    pub verifier: [u8; 32],
    /// Path and query of the page that the user wanted.
    pub target: Box<[u8]>,
}

impl Login {
    /// The target to return to: that of the request, unless it is not a path or is too long.
    pub fn target_of(target: &[u8]) -> Box<[u8]> {
        let is_path = target.starts_with(b"/") && target.iter().all(u8::is_ascii_graphic);
        let path = target.split(|byte| *byte == b'?').next().unwrap_or(target);
        match (is_path, target.len() <= TARGET_BYTES_MAX) {
            (true, true) => target.into(),
            (true, false) if path.len() <= TARGET_BYTES_MAX => path.into(),
            (_, _) => [b'/'].into(),
        }
    }

    /// The bytes of a login.
    pub fn encode(&self) -> Vec<u8> {
        let expires = self.expires.to_be_bytes();
        let fixed: [&[u8]; 5] = [
            &[VERSION],
            &expires,
            &self.state,
            &self.nonce,
            &self.verifier,
        ];
        let mut bytes = fixed.concat();
        bytes.extend_from_slice(&self.target);
        bytes
    }

    /// Reads what [`encode`](Self::encode) has written.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (expires, rest) = rest.split_first_chunk()?;
        let (state, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let (verifier, target) = rest.split_first_chunk()?;
        let is_login = *version == VERSION && *Self::target_of(target) == *target;
        is_login.then(|| Self {
            expires: u64::from_be_bytes(*expires),
            state: *state,
            nonce: *nonce,
            verifier: *verifier,
            target: target.into(),
        })
    }
}

/// Sessions have another version: no login is taken for one.
const VERSION: u8 = 129;
const TARGET_BYTES_MAX: usize = 2048;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn users_return_to_paths_of_the_host_only() {
        let of = |target: &str| {
            let target = Login::target_of(target.as_bytes());
            String::from_utf8(target.into()).unwrap()
        };
        assert_eq!(of("/a?b=c"), "/a?b=c");
        // Behind a scheme and a host, it is a path.
        assert_eq!(of("//evil.test/"), "//evil.test/");
        for other in ["", "*", "https://evil.test/", "/a b", "/a\r\nX: y", "/é"] {
            assert_eq!(of(other), "/", "{other}");
        }
        let query = format!("/a?{}", "x".repeat(TARGET_BYTES_MAX));
        assert_eq!(of(&query), "/a");
        assert_eq!(of(&format!("/{}", "x".repeat(TARGET_BYTES_MAX))), "/");
    }

    proptest! {
        #[test]
        fn logins_are_read_as_they_were_written(
            expires: u64, state: [u8; 16], nonce: [u8; 16], verifier: [u8; 32], target in "/[!-~]{0,99}",
        ) {
            let target = target.into_bytes().into();
            let login = Login { expires, state, nonce, verifier, target };
            let bytes = login.encode();
            prop_assert_eq!(Login::decode(&bytes), Some(login));
            prop_assert_eq!(Login::decode(&bytes[..72]), None);
        }

        #[test]
        fn bytes_are_a_login_only_if_it_is_written_so(bytes: Vec<u8>) {
            if let Some(login) = Login::decode(&bytes) {
                prop_assert_eq!(login.encode(), bytes);
            }
        }
    }
}
