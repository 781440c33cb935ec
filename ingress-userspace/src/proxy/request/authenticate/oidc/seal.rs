//! Encrypts cookies of logins, by keys that every node derives from the same Secret.
//!
//! The keys belong to a provider, an account there, and the claims and groups that a session is made of: a cookie
//! that was made for another account, or for another set of groups, cannot be opened. A cookie is bound to its
//! purpose by its key, and to its host as authenticated data.

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::digest::{self, SHA256};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ingress_core::ir::{OidcAuth, OidcClient};
use ingress_core::oidc::cookie::BYTES_MAX;

/// The keys of one policy.
pub(super) struct Seals {
    session: LessSafeKey,
    login: LessSafeKey,
    id: String,
}

/// What a cookie is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Session,
    Login,
}

impl Seals {
    /// Derives the keys (RFC 5869); `None` where the library fails.
    pub(super) fn derive(auth: &OidcAuth, client: &OidcClient) -> Option<Self> {
        let secret = Salt::new(HKDF_SHA256, SALT).extract(&client.cookie_secret);
        let policy = policy(auth, client);
        Some(Self {
            session: key(&secret, b"session", policy.as_ref())?,
            login: key(&secret, b"login", policy.as_ref())?,
            id: name(&secret, policy.as_ref())?,
        })
    }

    /// Tells the cookies of this policy from those of others. Tells nothing of the keys.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The value of a cookie.
    pub(super) fn seal(&self, purpose: Purpose, host: &str, plain: &[u8]) -> Option<String> {
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        let unique = Nonce::assume_unique_for_key(nonce);
        self.key(purpose)
            .seal_in_place_append_tag(unique, Aad::from(host.as_bytes()), &mut sealed)
            .ok()?;
        Some(URL_SAFE_NO_PAD.encode([&nonce[..], &sealed].concat()))
    }

    /// The content of a cookie that was sealed for this purpose and host.
    pub(super) fn open(&self, purpose: Purpose, host: &str, value: &[u8]) -> Option<Vec<u8>> {
        if value.len() > BYTES_MAX {
            return None;
        }
        let mut sealed = URL_SAFE_NO_PAD.decode(value).ok()?;
        let (nonce, sealed) = sealed.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.key(purpose);
        let opened = opened.open_in_place(nonce, Aad::from(host.as_bytes()), sealed);
        opened.ok().map(|plain| plain.to_vec())
    }

    fn key(&self, purpose: Purpose) -> &LessSafeKey {
        match purpose {
            Purpose::Session => &self.session,
            Purpose::Login => &self.login,
        }
    }
}

/// A digest of all that a session is made for.
fn policy(auth: &OidcAuth, client: &OidcClient) -> digest::Digest {
    let mut context = digest::Context::new(&SHA256);
    let mut add = |texts: &mut dyn Iterator<Item = &str>| {
        let mut count: u64 = 0;
        for text in texts {
            // A length in front, so that no two lists look alike.
            context.update(&(text.len() as u64).to_be_bytes());
            context.update(text.as_bytes());
            count += 1;
        }
        context.update(&count.to_be_bytes());
    };
    add(&mut [&*auth.issuer, &client.id, &auth.groups_claim].into_iter());
    add(&mut auth.groups.iter().map(|group| &**group));
    add(&mut auth.fields.iter().map(|(claim, _)| &**claim));
    context.finish()
}

fn key(secret: &Prk, purpose: &[u8], policy: &[u8]) -> Option<LessSafeKey> {
    let bytes: [u8; 32] = expand(secret, &[purpose, policy])?;
    let key = UnboundKey::new(&AES_256_GCM_SIV, &bytes).ok()?;
    Some(LessSafeKey::new(key))
}

fn name(secret: &Prk, policy: &[u8]) -> Option<String> {
    let bytes: [u8; 8] = expand(secret, &[b"name", policy])?;
    Some(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn expand<const N: usize>(secret: &Prk, info: &[&[u8]]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    secret.expand(info, Bytes(N)).ok()?.fill(&mut bytes).ok()?;
    Some(bytes)
}

struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// Keys of another version of the format are others.
const SALT: &[u8] = b"sluice oidc 1";

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> OidcAuth {
        OidcAuth {
            issuer: "https://id.test".into(),
            client: None,
            scopes: "openid".into(),
            callback_path: "/oauth2/callback".into(),
            logout_path: "/oauth2/logout".into(),
            logout_url: None,
            groups: ["dev".into()].into(),
            groups_claim: "groups".into(),
            fields: [("sub".into(), "x-user".into())].into(),
            session_lifetime: 60,
        }
    }

    fn client() -> OidcClient {
        OidcClient {
            id: "sluice".into(),
            secret: "s3cret".into(),
            cookie_secret: [7; 32].into(),
        }
    }

    #[test]
    fn every_node_opens_a_cookie_and_nothing_else_does() {
        let seals = Seals::derive(&auth(), &client()).unwrap();
        let other_node = Seals::derive(&auth(), &client()).unwrap();
        let value = seals.seal(Purpose::Session, "a.test", b"ann").unwrap();
        let opened = other_node.open(Purpose::Session, "a.test", value.as_bytes());
        assert_eq!(opened.as_deref(), Some(&b"ann"[..]));
        assert_eq!(seals.id(), other_node.id());
        assert_ne!(
            seals.seal(Purpose::Session, "a.test", b"ann").unwrap(),
            value
        );

        assert_eq!(seals.open(Purpose::Login, "a.test", value.as_bytes()), None);
        assert_eq!(
            seals.open(Purpose::Session, "b.test", value.as_bytes()),
            None
        );
        for at in 0..value.len() {
            let mut tampered = value.clone().into_bytes();
            tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(
                seals.open(Purpose::Session, "a.test", &tampered),
                None,
                "{at}"
            );
        }
        for hostile in [
            "",
            "A",
            "AAAA",
            "=",
            "ä",
            &"A".repeat(16),
            &"A".repeat(100_000),
        ] {
            assert_eq!(
                seals.open(Purpose::Session, "a.test", hostile.as_bytes()),
                None
            );
        }
    }

    #[test]
    fn other_accounts_claims_and_groups_have_other_keys() {
        let mut ids = vec![Seals::derive(&auth(), &client()).unwrap().id];
        let mut add = |change: fn(&mut OidcAuth, &mut OidcClient)| {
            let (mut auth, mut client) = (auth(), client());
            change(&mut auth, &mut client);
            ids.push(Seals::derive(&auth, &client).unwrap().id);
        };
        add(|auth, _| auth.issuer = "https://other.test".into());
        add(|_, client| client.id = "other".into());
        add(|_, client| client.cookie_secret = [8; 32].into());
        add(|auth, _| auth.groups = [].into());
        add(|auth, _| auth.groups = ["dev".into(), "admin".into()].into());
        add(|auth, _| auth.groups_claim = "roles".into());
        add(|auth, _| auth.fields = [("email".into(), "x-user".into())].into());
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        let mut same = auth();
        same.fields = [("sub".into(), "x-other".into())].into();
        same.scopes = "openid email".into();
        let of = |auth| Seals::derive(auth, &client()).unwrap().id;
        assert_eq!(of(&same), of(&auth()));
    }
}
