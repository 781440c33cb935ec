//! The hash of passwords that Apache's htpasswd writes by default (`$apr1$`), and its older relative
//! (`$1$`).
//!
//! Source: Poul-Henning Kamp's `crypt-md5` of FreeBSD, and APR's `apr_md5_encode`, which differ in
//! the magic text alone.

use md5::{Digest as _, Md5};

/// The magic text and the salt of a hash, if it is one of these.
pub(super) fn salt(hash: &str) -> Option<(&str, &str)> {
    let magic = ["$apr1$", "$1$"]
        .into_iter()
        .find(|magic| hash.starts_with(magic))?;
    let rest = &hash[magic.len()..];
    let (salt, digest) = rest.split_once('$')?;
    let salt = salt.get(..salt.len().min(SALT_BYTES_MAX))?;
    (!digest.is_empty()).then_some((magic, salt))
}

/// The hash of a password.
pub(super) fn hash(password: &[u8], magic: &str, salt: &str) -> String {
    let salt = salt.as_bytes();
    let alternate = digest(&[password, salt, password]);
    let mut first = Md5::new();
    for part in [password, magic.as_bytes(), salt] {
        first.update(part);
    }
    let mut left = password.len();
    while left > 0 {
        first.update(&alternate[..left.min(DIGEST_BYTES)]);
        left = left.saturating_sub(DIGEST_BYTES);
    }
    let mut bits = password.len();
    while bits > 0 {
        first.update(if bits & 1 == 1 {
            &[0][..]
        } else {
            &password[..1]
        });
        bits >>= 1;
    }
    let mut sum: [u8; DIGEST_BYTES] = first.finalize().into();
    for round in 0..ROUNDS {
        let (before, after) = if round & 1 == 1 {
            (password, &sum[..])
        } else {
            (&sum[..], password)
        };
        let salt = if round % 3 == 0 { &[][..] } else { salt };
        let repeated = if round % 7 == 0 { &[][..] } else { password };
        sum = digest(&[before, salt, repeated, after]);
    }
    let salt = String::from_utf8_lossy(salt);
    format!("{magic}{salt}${}", encode(&sum))
}

fn digest(parts: &[&[u8]]) -> [u8; DIGEST_BYTES] {
    let mut all = Md5::new();
    for part in parts {
        all.update(part);
    }
    all.finalize().into()
}

/// In groups of three bytes that are far from each other, six bits a letter.
fn encode(sum: &[u8; DIGEST_BYTES]) -> String {
    let mut text = String::new();
    let mut push = |bytes: [u8; 3], letters: usize| {
        let mut value = u32::from_be_bytes([0, bytes[0], bytes[1], bytes[2]]);
        for _ in 0..letters {
            text.push(char::from(LETTERS[(value & 63) as usize]));
            value >>= 6;
        }
    };
    for [a, b, c] in [[0, 6, 12], [1, 7, 13], [2, 8, 14], [3, 9, 15], [4, 10, 5]] {
        push([sum[a], sum[b], sum[c]], 4);
    }
    push([0, 0, sum[11]], 2);
    text
}

const LETTERS: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DIGEST_BYTES: usize = 16;
const SALT_BYTES_MAX: usize = 8;
const ROUNDS: usize = 1000;
