//! Asks the service of `auth-url` about a request.
//!
//! Source: ingress-nginx: a request without a body and with all fields of the client's; 2xx lets it
//! pass, 401 and 403 are returned, everything else is 500.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, SET_COOKIE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, Uri, response};
use http_body_util::Full;
use ingress_core::filter::{Answer, Context, escape, render};
use ingress_core::ir::ExternalAuth;

use super::answer_cache::ServiceAnswer;
use super::{Checked, refused};
use crate::proxy::request::error::ProxyError;
use crate::proxy::request::service_request::forwarded_fields;
use crate::proxy::runtime::field::address_value;

/// The fields and cookies that a service gives to a request it lets pass.
pub(super) struct Passed {
    pub(super) fields: Vec<(HeaderName, Option<HeaderValue>)>,
    pub(super) cookies: Vec<HeaderValue>,
}

/// Removes the fields that the answer of the service may set.
pub(super) fn unanswered(
    auth: &ExternalAuth,
) -> impl Iterator<Item = (HeaderName, Option<HeaderValue>)> {
    let names = auth.response_headers.iter();
    let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    names.map(|name| (name, None))
}

pub(super) async fn ask(auth: &ExternalAuth, checked: Checked<'_>) -> Result<Passed, ProxyError> {
    let answer = answer(auth, checked).await?;
    judge(auth, &answer, checked.context)
}

/// The answer of the service, or the one that is kept.
async fn answer(
    auth: &ExternalAuth,
    checked: Checked<'_>,
) -> Result<Rc<ServiceAnswer>, ProxyError> {
    let Checked {
        worker, context, ..
    } = checked;
    let known = &worker.known_clients;
    let now = worker.runtime.timers.now();
    let url = render(&auth.url, context);
    let key = auth.cache.as_ref().map(|cache| {
        let text = render(&cache.key, context);
        [&url, &b"\0"[..], auth.method.as_bytes(), b"\0", &text].concat()
    });
    if let Some(kept) = key.as_ref().and_then(|key| known.answers.get(key, now)) {
        return Ok(kept);
    }
    let request = request(auth, &url, checked)?;
    let head = known.services().send(request).await;
    let head = head.map_err(ProxyError::AuthService)?;
    let answer = Rc::new(read(auth, &head));
    let lifetime = auth
        .cache
        .as_ref()
        .map_or(0, |cache| cache.seconds(head.status.as_u16()));
    if let Some(key) = key.filter(|_| lifetime > 0) {
        let lifetime = Duration::from_secs(u64::from(lifetime));
        known.answers.keep(key, &answer, lifetime, now);
    }
    Ok(answer)
}

fn request(
    auth: &ExternalAuth,
    url: &[u8],
    checked: Checked<'_>,
) -> Result<Request<Full<Bytes>>, ProxyError> {
    let Checked {
        context,
        request_id,
        ..
    } = checked;
    let failed = || refused(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
    let uri = Uri::try_from(url).map_err(|_| failed())?;
    let authority = uri.authority().ok_or_else(failed)?;
    let host = HeaderValue::try_from(authority.as_str()).map_err(|_| failed())?;
    let mut headers = forwarded_fields(context.headers);
    headers.insert(HOST, host);
    let scheme = if context.is_https { "https" } else { "http" };
    let original = [
        scheme.as_bytes(),
        b"://",
        context.authority.as_bytes(),
        context.target,
    ];
    let mut set = |name: &'static str, value: &[u8]| {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-original-url", &original.concat());
    set("x-original-method", context.method.as_bytes());
    set("x-sent-from", b"nginx-ingress-controller");
    set("x-request-id", request_id.as_bytes());
    let redirect = render(&auth.request_redirect, context);
    set("x-auth-request-redirect", &redirect);
    if auth.is_method_given {
        set("x-original-uri", context.target);
        set("x-scheme", scheme.as_bytes());
    }
    let client = address_value(context.client.to_canonical());
    set("x-real-ip", client.as_bytes());
    set("x-forwarded-for", client.as_bytes());
    for (name, value) in &*auth.request_headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(&render(value, context));
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
    let method = Method::from_bytes(auth.method.as_bytes()).map_err(|_| failed())?;
    let mut request = Request::new(Full::default());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

fn read(auth: &ExternalAuth, head: &response::Parts) -> ServiceAnswer {
    let names = auth.response_headers.iter();
    let names = names.filter_map(|name| HeaderName::from_bytes(name.as_bytes()).ok());
    let fields = names.map(|name| {
        let value = head.headers.get(&name).cloned();
        (name, value)
    });
    ServiceAnswer {
        status: head.status,
        fields: fields.collect(),
        cookies: head.headers.get_all(SET_COOKIE).iter().cloned().collect(),
        challenge: head.headers.get(WWW_AUTHENTICATE).cloned(),
    }
}

fn judge(
    auth: &ExternalAuth,
    answer: &ServiceAnswer,
    context: &Context<'_>,
) -> Result<Passed, ProxyError> {
    if answer.status.is_success() {
        return Ok(Passed {
            fields: answer.fields.clone(),
            cookies: answer.cookies.clone(),
        });
    }
    let mut refusal = match (answer.status, &auth.signin) {
        (StatusCode::UNAUTHORIZED, Some(_)) => {
            Answer::redirect(StatusCode::FOUND.as_u16(), &signin(auth, context))
        }
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _) => Answer::status(answer.status),
        (_, _) => return Err(refused(StatusCode::INTERNAL_SERVER_ERROR.as_u16())),
    };
    if let Some(challenge) = &answer.challenge
        && refusal.status == StatusCode::UNAUTHORIZED
    {
        let field = (WWW_AUTHENTICATE, challenge.clone());
        refusal.fields.push(field);
    }
    let cookies = answer.cookies.iter().cloned();
    refusal
        .fields
        .extend(cookies.map(|cookie| (SET_COOKIE, cookie)));
    Err(ProxyError::Answered(Box::new(refusal)))
}

/// The URL of the sign-in page, with the URL to return to unless the annotation has one.
fn signin(auth: &ExternalAuth, context: &Context<'_>) -> Vec<u8> {
    let mut url = auth
        .signin
        .as_ref()
        .map_or_else(Vec::new, |signin| render(signin, context));
    let parameter = [auth.redirect_parameter.as_bytes(), b"="].concat();
    let query = url.iter().position(|byte| *byte == b'?');
    let is_told = query.is_some_and(|at| {
        let mut parameters = url[at + 1..].split(|byte| *byte == b'&');
        parameters.any(|one| one.starts_with(&parameter))
    });
    if is_told {
        return url;
    }
    url.push(if query.is_some() { b'&' } else { b'?' });
    url.extend_from_slice(&parameter);
    let scheme = if context.is_https { "https" } else { "http" };
    url.extend_from_slice(scheme.as_bytes());
    url.extend_from_slice(b"://");
    url.extend_from_slice(context.authority.as_bytes());
    escape(context.target, &mut url);
    url
}
