//! Answers preflight requests and tells browsers which origins may read responses.
//!
//! Source: ingress-nginx, annotation `enable-cors`: preflight requests are answered with 204 before
//! clients are authenticated; the fields replace those of the endpoint.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::{Answer, Context, Decision};
use crate::ir::{Cors, CorsOrigins};

pub(super) fn on_request(cors: &Cors, context: &Context<'_>) -> Decision {
    let is_preflight = context.method == "OPTIONS";
    if is_preflight && allowed_origin(cors, context.headers.get(ORIGIN)).is_some() {
        // The fields are set when the answer passes `on_response`.
        return Decision::Respond(Answer::status(StatusCode::NO_CONTENT));
    }
    Decision::Continue
}

pub(super) fn on_response(cors: &Cors, origin: Option<&HeaderValue>, fields: &mut HeaderMap) {
    let Some(origin) = allowed_origin(cors, origin) else {
        return;
    };
    let mut set = |name: HeaderName, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            fields.insert(name, value);
        }
    };
    set(ACCESS_CONTROL_ALLOW_METHODS, &cors.methods);
    set(ACCESS_CONTROL_ALLOW_HEADERS, &cors.headers);
    set(ACCESS_CONTROL_MAX_AGE, &cors.max_age.to_string());
    if let Some(exposed) = &cors.exposed {
        set(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
    if cors.credentials {
        set(ACCESS_CONTROL_ALLOW_CREDENTIALS, "true");
    }
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
}

/// The value of Access-Control-Allow-Origin, for an origin that is answered.
fn allowed_origin(cors: &Cors, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
    match &cors.origins {
        CorsOrigins::Any => Some(HeaderValue::from_static("*")),
        CorsOrigins::Listed(_) => {
            let origin = origin?;
            let is_allowed = cors.origins.admit(origin.as_bytes());
            is_allowed.then(|| origin.clone())
        }
    }
}
