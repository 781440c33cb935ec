//! Opens sessions: trades a one-time token, or a token that the API server reviews, for a cookie.

use std::time::Instant;

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use serde::Deserialize;
use tracing::{info, warn};

use super::State;
use super::server::{Answer, json, problem};
use super::sessions::{FAILURES_MAX, Rights, SESSION_LIFE, Secret, TooManyAttempts};

/// The body of a request for a session.
#[derive(Deserialize)]
struct Login {
    token: String,
}

impl State {
    /// The rights of the session that the request's cookie names.
    pub(super) fn rights(&self, fields: &HeaderMap) -> Option<Rights> {
        let wanted = self.cookie_name();
        let cookies = fields.get_all(COOKIE).iter();
        let cookies = cookies.filter_map(|cookies| cookies.to_str().ok());
        let mut pairs = cookies.flat_map(|cookies| cookies.split(';'));
        let session = pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == wanted).then_some(value)
        })?;
        self.doors.lock().find(session, Instant::now())
    }

    /// Opens a session for the token in the body of a request.
    pub(super) async fn log_in(&self, request: Request<Incoming>) -> Response<Answer> {
        let body = Limited::new(request.into_body(), LOGIN_BYTES_MAX).collect();
        let Ok(body) = body.await else {
            return problem(StatusCode::PAYLOAD_TOO_LARGE, "the token is too long");
        };
        let Ok(login) = serde_json::from_slice::<Login>(&body.to_bytes()) else {
            return problem(
                StatusCode::BAD_REQUEST,
                "expected JSON with the field `token`",
            );
        };
        match self.judge(&login.token).await {
            Ok(Some(rights)) => self.open(rights),
            Ok(None) => {
                warn!("a login to the dashboard was refused");
                problem(StatusCode::UNAUTHORIZED, self.advice())
            }
            Err(Unjudged::TooMany) => {
                let text = format!("{FAILURES_MAX} logins failed within a minute; wait for one");
                problem(StatusCode::TOO_MANY_REQUESTS, &text)
            }
            Err(Unjudged::Unreviewed) => problem(
                StatusCode::BAD_GATEWAY,
                "the API server did not review the token; see the daemon's log",
            ),
        }
    }

    /// A sentence that tells how a session is opened.
    pub(super) fn advice(&self) -> &'static str {
        match self.reviewer {
            None if self.feed.is_of_nodes() => {
                "the token is unknown, was used before, or is older than a minute: press Enter \
                 where `kubectl sluice dashboard` runs, and open the URL that it prints"
            }
            None => {
                "the token is unknown, was used before, or is older than a minute: run `sluice \
                 dashboard url` again"
            }
            Some(_) => {
                "the API server does not know the token, or its user may not get \
                 /sluice/dashboard"
            }
        }
    }

    /// The name of the cookie: browsers keep those of other daemons beside it.
    pub(super) fn cookie_name(&self) -> String {
        let prefix = if self.is_secure { "__Host-" } else { "" };
        format!("{prefix}sluice-{}", self.instance)
    }

    async fn judge(&self, token: &str) -> Result<Option<Rights>, Unjudged> {
        let Some(reviewer) = &self.reviewer else {
            let is_right = self.doors.lock().redeem(token, Instant::now())?;
            return Ok(is_right.then_some(Rights { tail: true }));
        };
        // Before the API server is asked: it is not to be flooded from here.
        self.doors.lock().admit(Instant::now())?;
        match reviewer.review(token).await {
            Ok(Some(rights)) => Ok(Some(rights)),
            Ok(None) => {
                self.doors.lock().fail(Instant::now());
                Ok(None)
            }
            Err(error) => {
                self.doors.lock().fail(Instant::now());
                let error = format!("{error:#}");
                warn!(
                    error,
                    "the API server did not review a user of the dashboard"
                );
                Err(Unjudged::Unreviewed)
            }
        }
    }

    fn open(&self, rights: Rights) -> Response<Answer> {
        let Some(session) = Secret::random() else {
            return problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the kernel gives no random numbers",
            );
        };
        self.doors.lock().open(&session, rights, Instant::now());
        info!("a session of the dashboard was opened");
        let secure = if self.is_secure { "; Secure" } else { "" };
        let cookie = format!(
            "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age={}{secure}",
            self.cookie_name(),
            session.text(),
            SESSION_LIFE.as_secs()
        );
        let mut response = json(&serde_json::json!({"seconds": SESSION_LIFE.as_secs()}));
        if let Ok(cookie) = HeaderValue::from_str(&cookie) {
            response.headers_mut().insert(SET_COOKIE, cookie);
        }
        response
    }
}

/// Why a token was not judged.
enum Unjudged {
    TooMany,
    Unreviewed,
}

impl From<TooManyAttempts> for Unjudged {
    fn from(_: TooManyAttempts) -> Self {
        Self::TooMany
    }
}

/// Tokens of service accounts have some 1,000 bytes.
const LOGIN_BYTES_MAX: usize = 16 << 10;
