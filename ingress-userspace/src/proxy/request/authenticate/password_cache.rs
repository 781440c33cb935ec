//! Passwords that were right before, so that a request does not take as long as a comparison.
//!
//! What is kept is a keyed digest of the hash and the password: neither can be read from it, and a
//! changed hash makes it worthless.

use std::cell::RefCell;
use std::io;

use aws_lc_rs::hmac;
use hashbrown::HashSet;

/// Passwords of one worker's clients that were right before.
pub(crate) struct PasswordCache {
    key: hmac::Key,
    known: RefCell<HashSet<[u8; 32]>>,
}

impl PasswordCache {
    /// # Errors
    ///
    /// An I/O error if there are no random numbers.
    pub(crate) fn new() -> io::Result<Self> {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random);
        Ok(Self {
            key: key.map_err(|_| io::Error::other("no random numbers"))?,
            known: RefCell::default(),
        })
    }

    pub(crate) fn has(&self, hash: &str, password: &[u8]) -> bool {
        self.known.borrow().contains(&self.digest(hash, password))
    }

    pub(crate) fn keep(&self, hash: &str, password: &[u8]) {
        let mut known = self.known.borrow_mut();
        if known.len() >= PASSWORDS_MAX {
            known.clear();
        }
        known.insert(self.digest(hash, password));
    }

    fn digest(&self, hash: &str, password: &[u8]) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(&(hash.len() as u64).to_be_bytes());
        context.update(hash.as_bytes());
        context.update(password);
        let mut digest = [0; 32];
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }
}

const PASSWORDS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_hash_and_password_are_known() {
        let cache = PasswordCache::new().unwrap();
        cache.keep("hash", b"password");
        assert!(cache.has("hash", b"password"));
        assert!(!cache.has("hash", b"other"));
        assert!(!cache.has("hashp", b"assword"));
    }
}
