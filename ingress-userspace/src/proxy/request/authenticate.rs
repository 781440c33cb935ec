//! The part of the filter phase that takes more than the request: passwords, tokens, logins, services that
//! decide, and rate limits.
//!
//! Invariant: whatever goes wrong refuses the request.

mod answer_cache;
mod claims;
mod documents;
mod keys;
mod oidc;
mod password_cache;
mod service;
mod token;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, COOKIE, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ingress_core::filter::{Answer, Check, Context};
use ingress_core::ir::{Authentication, BasicAuth, Denial, Satisfy};
use ingress_core::oidc::{Provider, cookie};
use tokio::sync::Semaphore;

use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::password;
use crate::proxy::request::rate_limit::{Exceeded, OpenRequest, RateTable};
use crate::proxy::upstream::service_client::ServiceClient;
use answer_cache::AnswerCache;
use documents::Documents;
use keys::KeySet;
use oidc::Logins;
use password_cache::PasswordCache;
use token::Tokens;

/// The state of client checks that all workers share.
#[derive(Clone, Debug)]
pub struct Checks {
    /// The rate limits' table of clients.
    pub(crate) rates: RateTable,
    /// Asks services that decide.
    pub(crate) services: ServiceClient,
    /// The keys of tokens.
    issuers: Documents<KeySet>,
    /// What OpenID providers say of themselves.
    providers: Documents<Provider>,
    /// Passwords that are compared at a time, so that guesses never take more than this.
    comparing: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            rates: RateTable::default(),
            services: ServiceClient::default(),
            issuers: Documents::default(),
            providers: Documents::default(),
            comparing: Arc::new(Semaphore::new(COMPARISONS_MAX)),
        }
    }
}

impl Checks {
    /// Starts what runs beside workers, in the network namespace of the caller.
    ///
    /// # Errors
    ///
    /// An I/O error where a thread cannot be started.
    pub fn start(&self) -> std::io::Result<()> {
        self.services.start()
    }
}

/// One worker's caches of earlier checks.
pub(crate) struct KnownClients {
    shared: Checks,
    passwords: PasswordCache,
    tokens: Tokens,
    logins: Logins,
    answers: AnswerCache,
}

impl KnownClients {
    pub(crate) fn new(shared: Checks) -> std::io::Result<Self> {
        Ok(Self {
            tokens: Tokens::new(shared.issuers.clone()),
            logins: Logins::new(shared.providers.clone()),
            shared,
            passwords: PasswordCache::new()?,
            answers: AnswerCache::default(),
        })
    }

    /// Asks services.
    pub(crate) fn services(&self) -> &ServiceClient {
        &self.shared.services
    }
}

/// The effects of a passed check on the request.
#[derive(Default)]
pub(crate) struct Granted {
    /// Fields of the request for the endpoint; `None` removes one.
    pub(crate) fields: Vec<(HeaderName, Option<HeaderValue>)>,
    /// Cookies for the client.
    pub(crate) cookies: Vec<HeaderValue>,
    /// Whether they are for responses of any status.
    pub(crate) always_sets_cookies: bool,
    /// Counts the request until its end.
    pub(crate) open: Option<OpenRequest>,
}

/// The input of a check.
#[derive(Clone, Copy)]
pub(crate) struct Checked<'a> {
    pub(crate) worker: &'a WorkerContext,
    pub(crate) context: &'a Context<'a>,
    pub(crate) request_id: &'a HeaderValue,
}

/// Lets a request pass or not.
///
/// # Errors
///
/// [`ProxyError::Answered`] with the answer to a client that may not pass, [`ProxyError::Unanswered`] for one
/// that gets none, [`ProxyError::AuthService`] where the service could not decide.
pub(crate) async fn pass(check: &Check, checked: Checked<'_>) -> Result<Granted, ProxyError> {
    match check {
        Check::RateLimit(limit) => {
            let known = &checked.worker.known_clients;
            let open = known.shared.rates.admit(limit, checked.context.client);
            let open = open.map_err(|exceeded| {
                refused(match exceeded {
                    Exceeded::Rate => limit.rate_status,
                    Exceeded::Connections => limit.connections_status,
                })
            })?;
            Ok(Granted {
                open,
                ..Granted::default()
            })
        }
        Check::Authenticate(asked) => authenticate(asked, checked).await,
    }
}

async fn authenticate(asked: &Authentication, checked: Checked<'_>) -> Result<Granted, ProxyError> {
    if let Some(answer) = answer_own(asked, checked).await {
        return Err(answer);
    }
    let mut granted = without_credentials(asked, checked.context.headers);
    let mut parts = Parts::of(asked);
    if parts.judge(admit(asked, checked))? {
        return Ok(granted);
    }
    if let Some(basic) = &asked.basic
        && parts.judge(Some(login(basic, checked).await))?
    {
        return Ok(granted);
    }
    if let Some(jwt) = &asked.jwt {
        let passed = token::pass(jwt, checked).await;
        let passed = passed.map(|fields| granted.fields.extend(fields.iter().cloned()));
        if parts.judge(Some(passed))? {
            return Ok(granted);
        }
    }
    // With a choice, the others have their say before a user is sent to log in.
    let mut due = None;
    if let Some(oidc) = &asked.oidc {
        match oidc::pass(oidc, checked) {
            Ok(fields) => {
                granted.fields.extend(fields);
                if parts.judge(Some(Ok(())))? {
                    return Ok(granted);
                }
            }
            Err(refusal) if parts.is_any => due = Some((oidc, refusal)),
            Err(refusal) => return Err(refusal.answer(oidc, checked).await),
        }
    }
    if let Some(external) = &asked.external {
        let answer = service::ask(external, checked).await;
        let passed = answer.map(|found| {
            granted.fields.extend(found.fields);
            granted.cookies = found.cookies;
            granted.always_sets_cookies = external.always_sets_cookie;
        });
        if parts.judge(Some(passed))? {
            return Ok(granted);
        }
    }
    if let Some((oidc, refusal)) = due {
        let answer = refusal.answer(oidc, checked).await;
        if refusal.is_login_due(checked.context) {
            return Err(answer);
        }
        parts.refuse(answer);
    }
    parts.refusal.map_or(Ok(granted), Err)
}

/// The parts of an authentication, one after the other.
struct Parts {
    /// Whether one of them is enough.
    is_any: bool,
    /// What the client is told if none is.
    refusal: Option<ProxyError>,
}

impl Parts {
    fn of(asked: &Authentication) -> Self {
        Self {
            is_any: asked.satisfy == Satisfy::Any,
            refusal: None,
        }
    }

    /// Whether the client passes by this part alone. An error where it has to pass by it and does not.
    fn judge(&mut self, part: Option<Result<(), ProxyError>>) -> Result<bool, ProxyError> {
        match part {
            None => Ok(false),
            Some(Ok(())) => Ok(self.is_any),
            Some(Err(failure)) if self.is_any => {
                self.refuse(failure);
                Ok(false)
            }
            Some(Err(failure)) => Err(failure),
        }
    }

    /// As in nginx, 401 counts before 403.
    fn refuse(&mut self, failure: ProxyError) {
        let first = self.refusal.take();
        let is_challenge = |first: &ProxyError| first.status() == StatusCode::UNAUTHORIZED;
        self.refusal = Some(first.filter(is_challenge).unwrap_or(failure));
    }
}

/// The answer to a request for a path of logins, which is for every client that may speak to the Ingress at all.
async fn answer_own(asked: &Authentication, checked: Checked<'_>) -> Option<ProxyError> {
    let oidc = asked.oidc.as_ref()?;
    let path = oidc.own_path(checked.context.path)?;
    if asked.satisfy == Satisfy::All
        && let Some(Err(failure)) = admit(asked, checked)
    {
        return Some(failure);
    }
    Some(oidc::answer_own(oidc, path, checked).await)
}

/// Whether the client's address is one of those that may speak to the Ingress, if some may not.
fn admit(asked: &Authentication, checked: Checked<'_>) -> Option<Result<(), ProxyError>> {
    let sources = asked.sources.as_ref()?;
    let is_admitted = sources.admits(checked.context.client);
    Some(
        is_admitted
            .then_some(())
            .ok_or_else(|| denied(sources.denial)),
    )
}

/// A password and a session are for us and not for the endpoint. Fields that tell of claims and of the service's
/// answer come from these only, also where a client gets in by other means.
fn without_credentials(asked: &Authentication, headers: &HeaderMap) -> Granted {
    let password = asked.basic.as_ref().map(|_| (AUTHORIZATION, None));
    let session = asked
        .oidc
        .as_ref()
        .and_then(|_| cookie::without_ours(headers));
    let session = session.map(|others| (COOKIE, others));
    let jwt = asked.jwt.iter();
    let of_tokens = jwt.flat_map(|jwt| claims::unclaimed(&jwt.fields));
    let oidc = asked.oidc.iter();
    let of_logins = oidc.flat_map(|oidc| claims::unclaimed(&oidc.fields));
    let answers = asked
        .external
        .iter()
        .flat_map(|auth| service::unanswered(auth));
    let fields = password.into_iter().chain(session);
    Granted {
        fields: fields
            .chain(of_tokens)
            .chain(of_logins)
            .chain(answers)
            .collect(),
        ..Granted::default()
    }
}

/// Whether the client has shown a user and the password (RFC 7617).
async fn login(basic: &BasicAuth, checked: Checked<'_>) -> Result<(), ProxyError> {
    let shown = credentials(checked.context.headers);
    let Some((user, password)) = shown else {
        return Err(challenge(basic));
    };
    let hash = std::str::from_utf8(&user)
        .ok()
        .and_then(|user| basic.users.0.get(user));
    let Some(hash) = hash else {
        return Err(challenge(basic));
    };
    let known = &checked.worker.known_clients;
    if known.passwords.has(hash, &password) {
        return Ok(());
    }
    let comparing = Arc::clone(&known.shared.comparing);
    let Ok(place) = comparing.acquire_owned().await else {
        return Err(refused(StatusCode::SERVICE_UNAVAILABLE.as_u16()));
    };
    let compared = {
        let (password, hash) = (password.clone(), hash.clone());
        tokio::task::spawn_blocking(move || {
            let _place = place;
            password::matches(&password, &hash)
        })
    };
    if compared.await.unwrap_or(false) {
        known.passwords.keep(hash, &password);
        Ok(())
    } else {
        Err(challenge(basic))
    }
}

/// The user and password of a request.
fn credentials(headers: &HeaderMap) -> Option<(Vec<u8>, Vec<u8>)> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, rest) = value.split_at_checked("Basic ".len())?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let shown = STANDARD.decode(rest.trim_ascii()).ok()?;
    let colon = shown.iter().position(|byte| *byte == b':')?;
    let (user, password) = (&shown[..colon], &shown[colon + 1..]);
    let is_usable = password.len() <= PASSWORD_BYTES_MAX;
    is_usable.then(|| (user.to_vec(), password.to_vec()))
}

fn challenge(basic: &BasicAuth) -> ProxyError {
    let mut answer = Answer::status(StatusCode::UNAUTHORIZED);
    let value = HeaderValue::try_from(format!("Basic realm=\"{}\"", basic.realm));
    let value = value.unwrap_or(HeaderValue::from_static("Basic realm=\"\""));
    answer.fields.push((WWW_AUTHENTICATE, value));
    answered(answer)
}

fn denied(denial: Denial) -> ProxyError {
    match denial {
        Denial::Forbidden => refused(StatusCode::FORBIDDEN.as_u16()),
        Denial::Close => ProxyError::Unanswered,
    }
}

fn refused(status: u16) -> ProxyError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    answered(Answer::status(status))
}

fn answered(answer: Answer) -> ProxyError {
    ProxyError::Answered(Box::new(answer))
}

/// A comparison takes up to a second of a CPU; one at a time bounds the CPU of clients that guess.
const COMPARISONS_MAX: usize = 1;
/// bcrypt looks at 72.
const PASSWORD_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_those_of_rfc_7617() {
        let read = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_static(value));
            let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
            credentials(&headers).map(|(user, password)| (text(user), text(password)))
        };
        let both = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        assert_eq!(read("Basic YW5uOmI6Yw=="), both("ann", "b:c"));
        assert_eq!(read("basic YW5uOg=="), both("ann", ""));
        for wrong in ["", "Basic", "Basic !", "Basic YW5u", "Bearer YW5uOmI="] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
        assert_eq!(credentials(&HeaderMap::new()), None);
    }
}
