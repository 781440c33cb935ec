//! The part of the filter phase that takes more than the request: passwords, tokens, services that
//! decide, and rate limits.
//!
//! Invariant: whatever goes wrong refuses the request.

mod answer_cache;
mod issuer;
mod keys;
mod password_cache;
mod service;
mod token;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use ingress_core::filter::{Answer, Check, Context};
use ingress_core::ir::{Authentication, BasicAuth, Denial, Satisfy};
use tokio::sync::Semaphore;

use crate::proxy::request::context::WorkerContext;
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::password;
use crate::proxy::request::rate_limit::{Exceeded, OpenRequest, RateTable};
use crate::proxy::upstream::service_client::ServiceClient;
use answer_cache::AnswerCache;
use issuer::Issuers;
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
    issuers: Issuers,
    /// Passwords that are compared at a time, so that guesses never take more than this.
    comparing: Arc<Semaphore>,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            rates: RateTable::default(),
            services: ServiceClient::default(),
            issuers: Issuers::default(),
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
    answers: AnswerCache,
}

impl KnownClients {
    pub(crate) fn new(shared: Checks) -> std::io::Result<Self> {
        Ok(Self {
            tokens: Tokens::new(shared.issuers.clone()),
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
    let any = asked.satisfy == Satisfy::Any;
    let mut refusal = None;
    if let Some(sources) = &asked.sources {
        match (sources.admits(checked.context.client), any) {
            (true, true) => return Ok(without_credentials(asked)),
            (true, false) => {}
            (false, true) => refusal = Some(denied(sources.denial)),
            (false, false) => return Err(denied(sources.denial)),
        }
    }
    if let Some(basic) = &asked.basic {
        match (login(basic, checked).await, any) {
            (Ok(()), true) => return Ok(without_credentials(asked)),
            (Ok(()), false) => {}
            (Err(failure), true) => refusal = Some(failure),
            (Err(failure), false) => return Err(failure),
        }
    }
    let mut granted = without_credentials(asked);
    if let Some(jwt) = &asked.jwt {
        match (token::pass(jwt, checked).await, any) {
            (Ok(fields), _) => {
                granted.fields.extend(fields.iter().cloned());
                if any {
                    return Ok(granted);
                }
            }
            (Err(failure), true) => refusal = Some(stronger(refusal, failure)),
            (Err(failure), false) => return Err(failure),
        }
    }
    if let Some(external) = &asked.external {
        match (service::ask(external, checked).await, any) {
            (Ok(found), _) => {
                granted.fields.extend(found.fields);
                granted.cookies = found.cookies;
                granted.always_sets_cookies = external.always_sets_cookie;
                return Ok(granted);
            }
            // As in nginx, 401 counts before 403.
            (Err(failure), true) => refusal = Some(stronger(refusal, failure)),
            (Err(failure), false) => return Err(failure),
        }
    }
    refusal.map_or(Ok(granted), Err)
}

/// A password is for us and not for the endpoint. Fields that tell of claims and of the service's
/// answer come from these only, also where a client gets in by other means.
fn without_credentials(asked: &Authentication) -> Granted {
    let password = asked.basic.as_ref().map(|_| (AUTHORIZATION, None));
    let claims = asked.jwt.iter().flat_map(|jwt| token::unclaimed(jwt));
    let answers = asked
        .external
        .iter()
        .flat_map(|auth| service::unanswered(auth));
    Granted {
        fields: password.into_iter().chain(claims).chain(answers).collect(),
        ..Granted::default()
    }
}

fn stronger(first: Option<ProxyError>, second: ProxyError) -> ProxyError {
    match first {
        Some(first) if first.status() == StatusCode::UNAUTHORIZED => first,
        Some(_) | None => second,
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
    ProxyError::Answered(Box::new(answer))
}

fn denied(denial: Denial) -> ProxyError {
    match denial {
        Denial::Forbidden => refused(StatusCode::FORBIDDEN.as_u16()),
        Denial::Close => ProxyError::Unanswered,
    }
}

fn refused(status: u16) -> ProxyError {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    ProxyError::Answered(Box::new(Answer::status(status)))
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
