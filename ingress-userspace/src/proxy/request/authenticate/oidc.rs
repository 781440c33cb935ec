//! Lets users in who have logged in at an OpenID provider (OpenID Connect Core 1.0 §3.1).
//!
//! A browser without a session is sent to the provider, which sends it back to the callback path with a code.
//! The code is exchanged for an ID token, whose claims become the session: a cookie that every node can read, as
//! its keys come from a Secret. Nothing of logins and sessions is kept here.
//!
//! Invariant: a request passes only with a session that was sealed for this Ingress's provider, account and
//! claims, at this host, and that has not ended.

mod callback;
mod exchange;
mod failure;
mod seal;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hashbrown::HashMap;
use http::header::{CACHE_CONTROL, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use ingress_core::filter::{Answer, Context, host_of};
use ingress_core::ir::{OidcAuth, OidcClient, OidcPath};
use ingress_core::oidc::{
    Authorization, Login, Provider, ProviderError, Session, authorization_url, cookie,
    discovery_url, is_navigation, logout_url,
};
use tokio::sync::Semaphore;

use super::claims::{self, ClaimFields};
use super::documents::{Document, Documents, KnownDocuments};
use super::token::seconds;
use super::{Checked, answered, refused};
use crate::proxy::request::error::ProxyError;
use failure::Failure;
use seal::{Purpose, Seals};

impl Document for Provider {
    const NAME: &'static str = "the configuration of an OpenID provider";
    const MEDIA_TYPES: &'static str = "application/json";
    type Error = ProviderError;

    fn read(text: &[u8]) -> Result<Self, ProviderError> {
        Self::parse(text)
    }
}

/// What one worker knows about logins.
pub(super) struct Logins {
    providers: KnownDocuments<Provider>,
    /// By the addresses of their policies.
    seals: RefCell<HashMap<usize, HeldSeals>>,
    /// Codes that are exchanged, by the URL of their provider's document.
    exchanges: RefCell<HashMap<Arc<str>, Arc<Semaphore>>>,
}

struct HeldSeals {
    /// Held, so that no other policy gets its address.
    _auth: Arc<OidcAuth>,
    seals: Rc<Seals>,
}

impl Logins {
    pub(super) fn new(providers: Documents<Provider>) -> Self {
        Self {
            providers: KnownDocuments::new(providers),
            seals: RefCell::default(),
            exchanges: RefCell::default(),
        }
    }

    /// What cookies of an Ingress are sealed by.
    fn seals(&self, auth: &Arc<OidcAuth>) -> Result<Rc<Seals>, Failure> {
        let address = Arc::as_ptr(auth).addr();
        let mut all = self.seals.borrow_mut();
        if let Some(held) = all.get(&address) {
            return Ok(Rc::clone(&held.seals));
        }
        let client = auth.client.as_deref().ok_or(Failure::NoClient)?;
        let seals = Rc::new(Seals::derive(auth, client).ok_or(Failure::Cryptography)?);
        if all.len() >= KEPT_MAX {
            all.clear();
        }
        let held = HeldSeals {
            _auth: Arc::clone(auth),
            seals: Rc::clone(&seals),
        };
        all.insert(address, held);
        Ok(seals)
    }

    /// The places for exchanges with a provider.
    fn exchanges(&self, url: &Arc<str>) -> Arc<Semaphore> {
        let mut all = self.exchanges.borrow_mut();
        if all.len() >= KEPT_MAX {
            // Those without an exchange under way.
            all.retain(|_, places| Arc::strong_count(places) > 1);
        }
        let places = all.entry(Arc::clone(url));
        Arc::clone(places.or_insert_with(|| Arc::new(Semaphore::new(EXCHANGES_MAX))))
    }
}

/// Why a request has no session that lets it in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The user has to log in.
    NoSession,
    /// The user has logged in and is in none of the groups.
    NotMember,
}

impl Refusal {
    /// Whether the user can do something about it at the provider.
    pub(super) fn is_login_due(self, context: &Context<'_>) -> bool {
        self == Self::NoSession && is_navigation(context.method, context.headers)
    }

    /// The answer to the request: browsers that open a page are sent to the provider.
    pub(super) async fn answer(self, auth: &Arc<OidcAuth>, checked: Checked<'_>) -> ProxyError {
        match self {
            Self::NotMember => refused(StatusCode::FORBIDDEN.as_u16()),
            Self::NoSession if self.is_login_due(checked.context) => {
                match begin(auth, checked).await {
                    Ok(answer) => answered(answer),
                    Err(failure) => failure.answer(checked),
                }
            }
            Self::NoSession => {
                let mut answer = Answer::status(StatusCode::UNAUTHORIZED);
                // RFC 9110 §15.5.2 asks for a challenge; browsers leave this one alone.
                let challenge = HeaderValue::from_static("Cookie");
                answer.fields.push((WWW_AUTHENTICATE, challenge));
                answered(uncached(answer))
            }
        }
    }
}

/// The fields that tell the endpoint of the user of a session.
pub(super) fn pass(auth: &Arc<OidcAuth>, checked: Checked<'_>) -> Result<ClaimFields, Refusal> {
    let session = session(auth, checked).ok_or(Refusal::NoSession)?;
    if !session.is_member {
        return Err(Refusal::NotMember);
    }
    let pairs = auth.fields.iter().zip(&session.claims);
    let fields = pairs.filter_map(|((_, name), claim)| claims::field(name, claim.as_deref()));
    Ok(fields.collect())
}

/// The session of a request.
fn session(auth: &Arc<OidcAuth>, checked: Checked<'_>) -> Option<Session> {
    let Checked {
        worker, context, ..
    } = checked;
    let seals = worker.known_clients.logins.seals(auth).ok()?;
    let now = seconds(SystemTime::now());
    let host = host(context);
    let name = cookie::session_name(seals.id(), context.is_https);
    let sessions = cookie::values(context.headers, &name).filter_map(|value| {
        let opened = seals.open(Purpose::Session, &host, value)?;
        Session::decode(&opened)
    });
    let mut good = sessions
        .filter(|session| now < session.expires && session.claims.len() == auth.fields.len());
    good.next()
}

/// Answers a request for one of the paths that are the proxy's own.
pub(super) async fn answer_own(
    auth: &Arc<OidcAuth>,
    path: OidcPath,
    checked: Checked<'_>,
) -> ProxyError {
    let answer = match path {
        OidcPath::Callback => callback::answer(auth, checked).await,
        OidcPath::Logout => log_out(auth, checked).await,
    };
    match answer {
        Ok(answer) => answered(answer),
        Err(failure) => failure.answer(checked),
    }
}

/// Sends the browser to the provider, with a cookie by which it proves later that it is the same.
async fn begin(auth: &Arc<OidcAuth>, checked: Checked<'_>) -> Result<Answer, Failure> {
    let context = checked.context;
    let asked = Asked::of(auth, checked).await?;
    let mut login = Login {
        expires: seconds(SystemTime::now()) + u64::from(LOGIN_SECONDS),
        state: [0; 16],
        nonce: [0; 16],
        verifier: [0; 32],
        target: Login::target_of(context.target),
    };
    for bytes in [&mut login.state[..], &mut login.nonce, &mut login.verifier] {
        rand::fill(bytes).map_err(|_| Failure::Cryptography)?;
    }
    let challenge = digest(&SHA256, encode(&login.verifier).as_bytes());
    let url = authorization_url(
        &asked.provider,
        Authorization {
            auth,
            client: asked.client,
            redirect_uri: &redirect_uri(auth, context),
            state: &encode(&login.state),
            nonce: &encode(&login.nonce),
            code_challenge: &encode(challenge.as_ref()),
        },
    );
    let sealed = asked
        .seals
        .seal(Purpose::Login, &host(context), &login.encode());
    let sealed = sealed.ok_or(Failure::Cryptography)?;
    let name = cookie::login_name(asked.seals.id(), login.state[0], context.is_https);
    let mut answer = Answer::redirect(StatusCode::FOUND.as_u16(), &url);
    let cookie = cookie::set(
        &name,
        &sealed,
        &auth.callback_path,
        LOGIN_SECONDS,
        context.is_https,
    );
    answer
        .fields
        .extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    Ok(uncached(answer))
}

/// Ends the session of the browser, and that at the provider if there is a way.
async fn log_out(auth: &Arc<OidcAuth>, checked: Checked<'_>) -> Result<Answer, Failure> {
    let context = checked.context;
    let seals = checked.worker.known_clients.logins.seals(auth)?;
    // Without the provider, the session here ends all the same.
    let asked = Asked::of(auth, checked).await.ok();
    let url = asked.and_then(|asked| logout_url(&asked.provider, auth, asked.client));
    let url = url.or_else(|| {
        auth.logout_url
            .as_deref()
            .map(|url| url.as_bytes().to_vec())
    });
    let mut answer = match url {
        Some(url) => Answer::redirect(StatusCode::FOUND.as_u16(), &url),
        None => Answer {
            text: Some("logged out\n"),
            ..Answer::status(StatusCode::OK)
        },
    };
    let name = cookie::session_name(seals.id(), context.is_https);
    let cleared = cookie::set(&name, "", "/", 0, context.is_https);
    answer
        .fields
        .extend(cleared.map(|cookie| (SET_COOKIE, cookie)));
    Ok(uncached(answer))
}

/// What a login takes beside the request.
struct Asked<'a> {
    client: &'a OidcClient,
    seals: Rc<Seals>,
    provider: Arc<Provider>,
    /// The places for exchanges.
    exchanges: Arc<Semaphore>,
}

impl<'a> Asked<'a> {
    async fn of(auth: &'a Arc<OidcAuth>, checked: Checked<'_>) -> Result<Self, Failure> {
        let known = &checked.worker.known_clients;
        let client = auth.client.as_deref().ok_or(Failure::NoClient)?;
        let seals = known.logins.seals(auth)?;
        let url = discovery_url(&auth.issuer).into();
        let remote = known.logins.providers.at(&url);
        let remote = remote.ok_or(Failure::NoProvider)?;
        let provider = remote.get(known.services(), |_| true).await;
        let provider = provider.ok_or(Failure::NoProvider)?;
        // OpenID Connect Discovery 1.0 §4.3.
        if *provider.issuer != *auth.issuer {
            let expected = auth.issuer.to_string();
            return Err(Failure::OtherIssuer(provider.issuer.to_string(), expected));
        }
        Ok(Self {
            client,
            seals,
            provider,
            exchanges: known.logins.exchanges(&url),
        })
    }
}

/// Where the provider sends users back to.
fn redirect_uri(auth: &OidcAuth, context: &Context<'_>) -> String {
    format!("{}{}", origin(context), auth.callback_path)
}

/// The origin of the page that the user wants.
fn origin(context: &Context<'_>) -> String {
    let scheme = if context.is_https { "https" } else { "http" };
    format!("{scheme}://{}", context.authority)
}

/// The host that cookies are for: they do not tell ports apart.
fn host(context: &Context<'_>) -> String {
    host_of(context.authority).to_ascii_lowercase()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn uncached(mut answer: Answer) -> Answer {
    let value = HeaderValue::from_static("no-store");
    answer.fields.push((CACHE_CONTROL, value));
    answer
}

/// How long a user may take to log in.
const LOGIN_SECONDS: u32 = 600;
/// Codes of one provider that a worker exchanges at a time.
const EXCHANGES_MAX: usize = 16;
/// Policies, and providers, that one worker remembers.
const KEPT_MAX: usize = 1024;
