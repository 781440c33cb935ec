//! Lets clients in by JSON Web Tokens (RFC 7519, RFC 6750).
//!
//! Invariant: a token passes only with a signature by a key of its issuer, in an algorithm that the
//! Ingress lists. The header of a token chooses among these and nothing else.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use hashbrown::HashMap;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, StatusCode};
use ingress_core::filter::{Answer, cookie_value};
use ingress_core::ir::{JwtAlgorithm, JwtAuth, JwtKeys};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::claims::{self, ClaimFields};
use super::documents::{Documents, KnownDocuments, Remote};
use super::keys::KeySet;
use super::{Checked, answered, refused};
use crate::proxy::request::error::ProxyError;
use crate::proxy::upstream::service_client::ServiceClient;

/// What one worker knows about tokens and their keys.
pub(super) struct Tokens {
    issuers: KnownDocuments<KeySet>,
    sets: RefCell<HeldSets>,
    passed: RefCell<HashMap<TokenKey, Passed>>,
}

/// The sets that objects hold, by the addresses of their texts.
#[derive(Default)]
struct HeldSets {
    sets: HashMap<usize, HeldSet>,
    /// Bytes of all texts.
    bytes: usize,
}

/// A set that an object holds.
struct HeldSet {
    /// Held, so that no other text gets its address.
    _text: Arc<str>,
    keys: Arc<KeySet>,
}

impl HeldSets {
    fn get(&mut self, text: &Arc<str>) -> Arc<KeySet> {
        let address = Arc::as_ptr(text).addr();
        if let Some(set) = self.sets.get(&address) {
            return Arc::clone(&set.keys);
        }
        if self.sets.len() >= KEPT_MAX || self.bytes + text.len() > HELD_BYTES_MAX {
            *self = Self::default();
        }
        self.bytes += text.len();
        // A text that cannot be parsed counts as an empty set: no token passes.
        let keys = Arc::new(KeySet::parse(text.as_bytes()).unwrap_or_default());
        let set = HeldSet {
            _text: Arc::clone(text),
            keys: Arc::clone(&keys),
        };
        self.sets.insert(address, set);
        keys
    }
}

/// The address of a policy, and the digest of a token.
type TokenKey = (usize, [u8; 32]);

/// A token that has passed.
struct Passed {
    /// Held, so that no other policy gets its address.
    auth: Arc<JwtAuth>,
    keys: Arc<KeySet>,
    /// The end of its time, in seconds since 1970.
    expires: u64,
    fields: Rc<ClaimFields>,
}

impl Tokens {
    pub(super) fn new(issuers: Documents<KeySet>) -> Self {
        Self {
            issuers: KnownDocuments::new(issuers),
            sets: RefCell::default(),
            passed: RefCell::default(),
        }
    }

    fn source(&self, keys: &JwtKeys) -> Result<Source, Failure> {
        match keys {
            JwtKeys::Set(text) => Ok(Source::Set(self.sets.borrow_mut().get(text))),
            JwtKeys::Url(url) => (self.issuers.at(url).map(Source::Issuer)).ok_or(Failure::NoKeys),
        }
    }

    fn passed(&self, key: &TokenKey, keys: &Arc<KeySet>, now: u64) -> Option<Rc<ClaimFields>> {
        let passed = self.passed.borrow();
        let found = passed.get(key)?;
        let leeway = u64::from(found.auth.leeway);
        let is_good = Arc::ptr_eq(&found.keys, keys) && now <= found.expires.saturating_add(leeway);
        is_good.then(|| Rc::clone(&found.fields))
    }

    fn keep(&self, key: TokenKey, token: Passed) {
        let mut passed = self.passed.borrow_mut();
        if passed.len() >= TOKENS_MAX {
            passed.clear();
        }
        passed.insert(key, token);
    }
}

/// Where the keys of a policy are.
enum Source {
    Set(Arc<KeySet>),
    Issuer(Arc<Remote<KeySet>>),
}

impl Source {
    fn keys_at_hand(&self, services: &ServiceClient) -> Option<Arc<KeySet>> {
        match self {
            Self::Set(keys) => Some(Arc::clone(keys)),
            Self::Issuer(issuer) => issuer.at_hand(services),
        }
    }

    async fn keys(
        &self,
        services: &ServiceClient,
        suffices: impl Fn(&KeySet) -> bool,
    ) -> Option<Arc<KeySet>> {
        match self {
            Self::Set(keys) => Some(Arc::clone(keys)),
            Self::Issuer(issuer) => issuer.get(services, suffices).await,
        }
    }
}

/// Judges the token of a request.
///
/// # Errors
///
/// 401 without a token that passes, 503 where its keys are not known.
pub(super) async fn pass(
    auth: &Arc<JwtAuth>,
    checked: Checked<'_>,
) -> Result<Rc<ClaimFields>, ProxyError> {
    let Some(token) = token(auth, checked.context.headers) else {
        return Err(unauthorized("Bearer"));
    };
    let judged = judge(auth, token, checked).await;
    judged.map_err(|failure| {
        tracing::debug!(reason = %failure.reason(), "token is refused");
        match failure {
            Failure::NoKeys => refused(StatusCode::SERVICE_UNAVAILABLE.as_u16()),
            Failure::Header(_)
            | Failure::Algorithm(_)
            | Failure::UnknownKey
            | Failure::Token(_) => unauthorized("Bearer error=\"invalid_token\""),
        }
    })
}

/// Why a token does not pass.
pub(super) enum Failure {
    NoKeys,
    Header(jsonwebtoken::errors::Error),
    Algorithm(Algorithm),
    UnknownKey,
    Token(jsonwebtoken::errors::Error),
}

impl Failure {
    pub(super) fn reason(&self) -> String {
        match self {
            Self::NoKeys => "no keys are known".to_owned(),
            Self::Header(error) | Self::Token(error) => error.to_string(),
            Self::Algorithm(algorithm) => format!("algorithm {algorithm:?} is not listed"),
            Self::UnknownKey => "no key of the issuer has this `kid`".to_owned(),
        }
    }
}

async fn judge(
    auth: &Arc<JwtAuth>,
    token: &[u8],
    checked: Checked<'_>,
) -> Result<Rc<ClaimFields>, Failure> {
    let known = &checked.worker.known_clients;
    let tokens = &known.tokens;
    let now = seconds(SystemTime::now());
    let key = (Arc::as_ptr(auth).addr(), sha256(token));
    let source = tokens.source(&auth.keys)?;
    if let Some(keys) = source.keys_at_hand(known.services())
        && let Some(fields) = tokens.passed(&key, &keys, now)
    {
        return Ok(fields);
    }
    let (claims, keys) = verified(auth, token, &source, known.services()).await?;
    let fields = Rc::new(claims::fields(&auth.fields, &claims));
    tokens.keep(
        key,
        Passed {
            auth: Arc::clone(auth),
            keys,
            expires: claims.get("exp").and_then(Value::as_u64).unwrap_or(now),
            fields: Rc::clone(&fields),
        },
    );
    Ok(fields)
}

/// The claims of a token that comes from its issuer itself, and need not be remembered.
pub(super) async fn claims_of(
    auth: &JwtAuth,
    token: &[u8],
    checked: Checked<'_>,
) -> Result<Map<String, Value>, Failure> {
    let known = &checked.worker.known_clients;
    let source = known.tokens.source(&auth.keys)?;
    let (claims, _) = verified(auth, token, &source, known.services()).await?;
    Ok(claims)
}

/// The claims of a token that is good, and the keys that it was verified with.
async fn verified(
    auth: &JwtAuth,
    token: &[u8],
    source: &Source,
    services: &ServiceClient,
) -> Result<(Map<String, Value>, Arc<KeySet>), Failure> {
    let header = decode_header(token).map_err(Failure::Header)?;
    let is_listed = |algorithm: &JwtAlgorithm| of(*algorithm) == header.alg;
    if !auth.algorithms.iter().any(is_listed) {
        return Err(Failure::Algorithm(header.alg));
    }
    let id = header.kid.as_deref();
    let has_key = |keys: &KeySet| keys.candidates(header.alg, id).next().is_some();
    let keys = source.keys(services, has_key).await;
    let keys = keys.ok_or(Failure::NoKeys)?;
    if !has_key(&keys) {
        return Err(Failure::UnknownKey);
    }
    let claims = verify(auth, token, header.alg, id, &keys).map_err(Failure::Token)?;
    Ok((claims, keys))
}

/// The claims of a token, if a key has signed it and it is for us.
fn verify(
    auth: &JwtAuth,
    token: &[u8],
    algorithm: Algorithm,
    id: Option<&str>,
    keys: &KeySet,
) -> Result<Map<String, Value>, jsonwebtoken::errors::Error> {
    let mut validation = Validation::new(algorithm);
    validation.leeway = auth.leeway.into();
    validation.validate_nbf = true;
    let mut required = vec!["exp"];
    if let Some(issuer) = &auth.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.validate_aud = !auth.audiences.is_empty();
    if validation.validate_aud {
        validation.set_audience(&auth.audiences);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    let mut failure = ErrorKind::InvalidSignature.into();
    for key in keys.candidates(algorithm, id) {
        match decode(token, key, &validation) {
            Ok(token) => return Ok(token.claims),
            Err(error) => failure = error,
        }
        if !matches!(failure.kind(), ErrorKind::InvalidSignature) {
            break;
        }
    }
    Err(failure)
}

/// The token of a request: that of its one Authorization field, else of the cookie.
fn token<'a>(auth: &JwtAuth, headers: &'a HeaderMap) -> Option<&'a [u8]> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let token = match (lines.next(), lines.next()) {
        (Some(line), None) => bearer(line.as_bytes()),
        // Two readers could take different ones.
        (Some(_), Some(_)) => return None,
        (None, _) => None,
    };
    let of_cookie = || cookie_value(headers, auth.cookie.as_deref()?);
    let token = token.or_else(of_cookie)?;
    (!token.is_empty() && token.len() <= TOKEN_BYTES_MAX).then_some(token)
}

fn bearer(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Bearer ".len())?;
    let is_bearer = scheme.eq_ignore_ascii_case(b"Bearer ");
    is_bearer.then(|| rest.trim_ascii())
}

fn of(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Rs384 => Algorithm::RS384,
        JwtAlgorithm::Rs512 => Algorithm::RS512,
        JwtAlgorithm::Ps256 => Algorithm::PS256,
        JwtAlgorithm::Ps384 => Algorithm::PS384,
        JwtAlgorithm::Ps512 => Algorithm::PS512,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::Es384 => Algorithm::ES384,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

fn unauthorized(challenge: &'static str) -> ProxyError {
    let mut answer = Answer::status(StatusCode::UNAUTHORIZED);
    let challenge = HeaderValue::from_static(challenge);
    answer.fields.push((WWW_AUTHENTICATE, challenge));
    answered(answer)
}

fn sha256(token: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest(&SHA256, token).as_ref());
    sum
}

pub(super) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// A head may be as long; tokens are not.
const TOKEN_BYTES_MAX: usize = 16 << 10;
/// Tokens that one worker remembers.
const TOKENS_MAX: usize = 4096;
/// Sets that one worker remembers.
const KEPT_MAX: usize = 1024;
/// Bytes of the texts of sets that one worker holds.
const HELD_BYTES_MAX: usize = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bearer_tokens_are_those_of_rfc_6750() {
        assert_eq!(bearer(b"Bearer abc"), Some(&b"abc"[..]));
        assert_eq!(bearer(b"bearer  abc "), Some(&b"abc"[..]));
        for wrong in ["Bearer", "Basic abc", "", "Bearerabc"] {
            assert_eq!(bearer(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
