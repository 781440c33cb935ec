//! Session tickets by keys that come from outside, so that a session that began on one node is
//! resumed on any.
//!
//! The first key makes tickets, all of them open tickets: a new key is put first, and an old one
//! stays until its tickets have expired. Who has a key can read the sessions of its tickets.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::server::ProducesTickets;
use thiserror::Error;

/// The keys of one moment, which may be exchanged at any.
pub struct TicketKeys(ArcSwap<Vec<Key>>);

/// Why a text holds no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TicketKeyError {
    /// No key at all.
    #[error("no key found; expected one key per line in base64")]
    Empty,
    /// A line that is none.
    #[error("line {0} is not a key of at least 32 bytes in base64")]
    Malformed(usize),
    /// More than anybody needs.
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
}

struct Key {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
}

impl TicketKeys {
    /// Reads keys: one a line in base64, the newest first. Those of nginx
    /// (`ssl_session_ticket_key`, 48 or 80 bytes) will do.
    pub fn parse(text: &str) -> Result<Arc<Self>, TicketKeyError> {
        Ok(Arc::new(Self(ArcSwap::from_pointee(parse(text)?))))
    }

    /// Uses these keys from now on.
    pub fn replace(&self, text: &str) -> Result<(), TicketKeyError> {
        self.0.store(Arc::new(parse(text)?));
        Ok(())
    }

    fn seal(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let keys = self.0.load();
        let Key { name, key } = keys.first()?;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = [&now.to_be_bytes(), plain].concat();
        let unique = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(unique, Aad::from(name), &mut sealed)
            .ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.0.load();
        let Key { name, key } = keys.iter().find(|key| key.name == *name)?;
        let mut opened = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let plain = key
            .open_in_place(nonce, Aad::from(name), &mut opened)
            .ok()?;
        let (made, plain) = plain.split_first_chunk()?;
        // Nodes' clocks may differ a little.
        let age = now.checked_sub(u64::from_be_bytes(*made));
        let is_fresh = age.is_none_or(|age| age <= LIFETIME_SECONDS.into());
        is_fresh.then(|| plain.to_vec())
    }
}

impl ProducesTickets for TicketKeys {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        LIFETIME_SECONDS
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, now())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, now())
    }
}

impl fmt::Debug for TicketKeys {
    /// Never shows a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TicketKeys")
            .field("count", &self.0.load().len())
            .finish_non_exhaustive()
    }
}

fn parse(text: &str) -> Result<Vec<Key>, TicketKeyError> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let keys: Vec<_> = lines
        .map(|(number, line)| Key::parse(line).ok_or(TicketKeyError::Malformed(number)))
        .collect::<Result<_, _>>()?;
    match keys.len() {
        0 => Err(TicketKeyError::Empty),
        1..=KEYS_MAX => Ok(keys),
        _ => Err(TicketKeyError::TooMany),
    }
}

impl Key {
    fn parse(line: &str) -> Option<Self> {
        let secret = BASE64.decode(line).ok()?;
        if secret.len() < SECRET_BYTES_MIN {
            return None;
        }
        // One secret gives a key and a name that tells nothing of it.
        let derive = |purpose: &[u8]| {
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(purpose);
            context.update(&secret);
            context.finish()
        };
        let name = derive(b"sluice ticket name");
        let key = UnboundKey::new(&AES_256_GCM_SIV, derive(b"sluice ticket key").as_ref()).ok()?;
        Some(Self {
            name: *name.as_ref().first_chunk()?,
            key: LessSafeKey::new(key),
        })
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed();
    since.map_or(0, |since| since.as_secs())
}

/// Half a day, as rustls' own.
const LIFETIME_SECONDS: u32 = 12 * 60 * 60;

/// Keys of one file.
const KEYS_MAX: usize = 16;

/// Bytes of a secret that a key is made of.
const SECRET_BYTES_MIN: usize = 32;

const NAME_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn line(byte: u8) -> String {
        format!("{}\n", BASE64.encode([byte; 48]))
    }

    #[test]
    fn a_ticket_is_opened_by_any_node_that_has_its_key() {
        let one = TicketKeys::parse(&line(1)).unwrap();
        let other = TicketKeys::parse(&(line(2) + "# older\n\n" + &line(1))).unwrap();
        let ticket = one.encrypt(b"session").unwrap();
        assert_eq!(other.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        let newer = other.encrypt(b"session").unwrap();
        assert_eq!(one.decrypt(&newer), None);
        one.replace(&line(2)).unwrap();
        assert_eq!(one.decrypt(&newer).as_deref(), Some(&b"session"[..]));
        assert_eq!(one.decrypt(&ticket), None);
    }

    #[test]
    fn a_ticket_expires_and_cannot_be_changed() {
        let keys = TicketKeys::parse(&line(1)).unwrap();
        let ticket = keys.seal(b"session", 1_000_000).unwrap();
        let lifetime = u64::from(LIFETIME_SECONDS);
        assert!(keys.open(&ticket, 1_000_000 + lifetime).is_some());
        assert!(keys.open(&ticket, 1_000_001 + lifetime).is_none());
        for place in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[place] ^= 1;
            assert_eq!(keys.open(&changed, 1_000_000), None, "{place}");
            assert_eq!(keys.open(&ticket[..place], 1_000_000), None, "{place}");
        }
        assert_ne!(keys.seal(b"session", 1_000_000).unwrap(), ticket);
    }

    #[test]
    fn invalid_ticket_keys_are_reported() {
        let error = |text: &str| TicketKeys::parse(text).unwrap_err();
        assert_eq!(error("\n#\n"), TicketKeyError::Empty);
        assert_eq!(error(&(line(1) + "?")), TicketKeyError::Malformed(2));
        assert_eq!(error("c2hvcnQ="), TicketKeyError::Malformed(1));
        assert_eq!(error(&line(1).repeat(17)), TicketKeyError::TooMany);
        let keys = TicketKeys::parse(&line(1)).unwrap();
        assert!(keys.replace("").is_err());
        assert!(keys.encrypt(b"").is_some(), "the old ones stay");
        assert!(!format!("{keys:?}").contains("AQEB"));
    }
}
