//! The callback path: the user is back from the provider, with a code.

use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use http::header::SET_COOKIE;
use ingress_core::filter::Answer;
use ingress_core::ir::OidcAuth;
use ingress_core::oidc::{Callback, Login, Outcome, Session, cookie};
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;

use super::exchange::exchange;
use super::failure::Failure;
use super::seal::{Purpose, Seals};
use super::{Asked, host, origin, uncached};
use crate::proxy::request::authenticate::Checked;
use crate::proxy::request::authenticate::claims::text;
use crate::proxy::request::authenticate::token::seconds;

/// Begins the session of the user, and sends the browser to the page that it wanted.
pub(super) async fn answer(auth: &Arc<OidcAuth>, checked: Checked<'_>) -> Result<Answer, Failure> {
    let context = checked.context;
    if context.method != "GET" {
        return Err(Failure::Method);
    }
    let at = context.target.iter().position(|byte| *byte == b'?');
    let callback = Callback::parse(at.map_or(b"", |at| &context.target[at + 1..]))?;
    let seals = checked.worker.known_clients.logins.seals(auth)?;
    let login = login(&seals, &callback, checked).ok_or(Failure::UnknownLogin)?;
    let asked = Asked::of(auth, checked).await?;
    // RFC 9207 §2.4: the code may be another provider's.
    let is_foreign = match &callback.issuer {
        Some(issuer) => **issuer != *auth.issuer,
        None => asked.provider.names_itself,
    };
    if is_foreign {
        return Err(Failure::ForeignCallback);
    }
    let code = match callback.outcome {
        Outcome::Code(code) => code,
        Outcome::Refused(error) => return Err(Failure::Refused(error)),
    };
    let claims = exchange(auth, &asked, &login, &code, checked).await?;
    let mut answer = begin_session(auth, &seals, &claims, checked)?;
    checked.worker.runtime.counters.oidc_logins.increment();
    let target = [origin(context).as_bytes(), &login.target].concat();
    answer.location = Answer::redirect(StatusCode::FOUND.as_u16(), &target).location;
    // The login is over; its cookie is of no more use.
    let name = cookie::login_name(seals.id(), login.state[0], context.is_https);
    let cleared = cookie::set(&name, "", &auth.callback_path, 0, context.is_https);
    answer
        .fields
        .extend(cleared.map(|cookie| (SET_COOKIE, cookie)));
    Ok(uncached(answer))
}

/// The login that a callback belongs to, if it began in this browser and at this host.
fn login(seals: &Seals, callback: &Callback, checked: Checked<'_>) -> Option<Login> {
    let context = checked.context;
    let now = seconds(SystemTime::now());
    let state = URL_SAFE_NO_PAD.decode(&callback.state).ok()?;
    let name = cookie::login_name(seals.id(), *state.first()?, context.is_https);
    let mut values = cookie::values(context.headers, &name);
    values.find_map(|value| {
        let opened = seals.open(Purpose::Login, &host(context), value)?;
        let login = Login::decode(&opened)?;
        let is_its = bool::from(login.state.ct_eq(&state));
        (is_its && now < login.expires).then_some(login)
    })
}

/// The answer with the cookie of the session.
fn begin_session(
    auth: &OidcAuth,
    seals: &Seals,
    claims: &Map<String, Value>,
    checked: Checked<'_>,
) -> Result<Answer, Failure> {
    let context = checked.context;
    let is_member = is_member(auth, claims);
    let lifetime = if is_member {
        auth.session_lifetime
    } else {
        // A user who is added to a group soon gets in.
        auth.session_lifetime.min(REFUSED_SECONDS)
    };
    let of_fields = auth.fields.iter().map(|(claim, _)| {
        let text = claims.get(&**claim).and_then(text);
        text.map(String::into_boxed_str)
    });
    let session = Session {
        expires: seconds(SystemTime::now()) + u64::from(lifetime),
        is_member,
        claims: of_fields.collect(),
    };
    let bytes = session.encode().ok_or(Failure::TooLong)?;
    let sealed = seals.seal(Purpose::Session, &host(context), &bytes);
    let sealed = sealed.ok_or(Failure::Cryptography)?;
    let name = cookie::session_name(seals.id(), context.is_https);
    let cookie = cookie::set(&name, &sealed, "/", lifetime, context.is_https);
    let mut answer = Answer::status(StatusCode::FOUND);
    answer
        .fields
        .extend(cookie.map(|cookie| (SET_COOKIE, cookie)));
    Ok(answer)
}

/// Whether a user is in a group that is let in.
fn is_member(auth: &OidcAuth, claims: &Map<String, Value>) -> bool {
    let is_listed = |group: &Value| {
        let group = group.as_str();
        group.is_some_and(|group| auth.groups.iter().any(|listed| **listed == *group))
    };
    auth.groups.is_empty()
        || match claims.get(&*auth.groups_claim) {
            Some(Value::Array(groups)) => groups.iter().any(is_listed),
            Some(group) => is_listed(group),
            None => false,
        }
}

/// How long a user who is in none of the groups is refused without another login.
const REFUSED_SECONDS: u32 = 300;
