//! Compares passwords with their hashes, as htpasswd files have them.
//!
//! Source: nginx, `ngx_crypt` (`$apr1$`, `{PLAIN}`, `{SHA}`, `{SSHA}`), and `crypt(5)` of glibc for the
//! others. DES is left out.

mod md5_crypt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq as _;

/// Whether a password is the one of a hash. A hash of an unknown kind has none.
///
/// Takes as long as the hash asks for: up to a second for bcrypt with a high cost.
pub(crate) fn matches(password: &[u8], hash: &str) -> bool {
    if let Some(plain) = hash.strip_prefix("{PLAIN}") {
        return is_same(password, plain.as_bytes());
    }
    if let Some(digest) = hash.strip_prefix("{SHA}") {
        let Ok(digest) = STANDARD.decode(digest) else {
            return false;
        };
        return is_same(&sha1(&[password]), &digest);
    }
    if let Some(salted) = hash.strip_prefix("{SSHA}") {
        let Ok(salted) = STANDARD.decode(salted) else {
            return false;
        };
        let Some((digest, salt)) = salted.split_at_checked(SHA1_BYTES) else {
            return false;
        };
        return is_same(&sha1(&[password, salt]), digest);
    }
    if let Some((magic, salt)) = md5_crypt::salt(hash) {
        return is_same(
            md5_crypt::hash(password, magic, salt).as_bytes(),
            hash.as_bytes(),
        );
    }
    if hash.starts_with("$2") {
        return cost(hash).is_some_and(|cost| cost <= BCRYPT_COST_MAX)
            && bcrypt::verify(password, hash).unwrap_or(false);
    }
    let Ok(password) = std::str::from_utf8(password) else {
        return false;
    };
    if rounds(hash) > SHA_CRYPT_ROUNDS_MAX {
        return false;
    }
    match hash.get(..3) {
        Some("$5$") => sha_crypt::sha256_check(password, hash).is_ok(),
        Some("$6$") => sha_crypt::sha512_check(password, hash).is_ok(),
        Some(_) | None => false,
    }
}

fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

fn sha1(parts: &[&[u8]]) -> Vec<u8> {
    use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().to_vec()
}

/// The cost in a hash of bcrypt: `$2y$COST$…`.
fn cost(hash: &str) -> Option<u32> {
    hash.split('$').nth(2)?.parse().ok()
}

/// The rounds in a hash of SHA crypt: `$5$rounds=N$…`.
fn rounds(hash: &str) -> u32 {
    let part = hash.split('$').nth(2).unwrap_or_default();
    let rounds = part.strip_prefix("rounds=").map(str::parse);
    rounds.map_or(0, |rounds| rounds.unwrap_or(u32::MAX))
}

const SHA1_BYTES: usize = 20;

/// Whoever writes a Secret chooses how much work its hashes are; a password takes seconds beyond
/// these.
const BCRYPT_COST_MAX: u32 = 14;
const SHA_CRYPT_ROUNDS_MAX: u32 = 500_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `openssl passwd`, `openssl sha1` and `crypt(3)` of Debian 12.
    const HASHES: [&str; 10] = [
        "{PLAIN}secret",
        "{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=",
        "{SSHA}gVK8WC9YyFT1gMsQHTGCgT3sSv5zYWx0",
        "$apr1$saltsalt$LrttParrLPdxvgutaSXWJ0",
        "$1$saltsalt$9xy1btjgzLYfb7hivXtC//",
        "$5$saltsalt$0IyaXrmV7.sGNS6tirgqHLqX/G.FBvgkYA.lpPdS5sA",
        "$6$saltsalt$TVLlQcbpFVof5W3Yz4DTP6gRstiNuHwwTt6GLc1E5n0U0aDehy0S5knV8wiOQSpT0Y77vwPZN.Pq.H91p5hVO1",
        "$6$rounds=10000$saltsalt$WowrPBpEDVlCoruBosYlrZycTCx3//TyDHYqEhX9DUHHt0XTztUqzQDDUuvUGRA8aUe9p55hcAxeGcu58sm3u.",
        "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
        "$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a",
    ];

    #[test]
    fn password_is_compared_with_hashes_of_every_kind() {
        for hash in HASHES {
            assert!(matches(b"secret", hash), "{hash}");
            for wrong in ["Secret", "secret ", ""] {
                assert!(!matches(wrong.as_bytes(), hash), "{hash}");
            }
        }
    }

    #[test]
    fn hash_of_an_unknown_kind_matches_nothing() {
        for hash in [
            "", "secret", "xyz", "$9$x$y", "{SSHA}", "{SHA}!", "$2y$", "$apr1$",
        ] {
            assert!(!matches(b"secret", hash), "{hash}");
            assert!(!matches(b"", hash), "{hash}");
        }
    }

    #[test]
    fn work_beyond_the_bounds_is_refused() {
        assert!(!matches(
            b"x",
            "$2y$31$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC"
        ));
        assert!(!matches(b"x", "$6$rounds=999999999$saltsalt$x"));
    }
}
