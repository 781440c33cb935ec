//! Why a login does not come to its end, and what its user is told.

use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use ingress_core::filter::Answer;
use ingress_core::oidc::CallbackError;
use thiserror::Error;

use crate::proxy::request::authenticate::{Checked, answered, token};
use crate::proxy::request::error::ProxyError;
use crate::proxy::upstream::service_client::ServiceError;

/// Why a login does not come to its end.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("the account at the provider is not known")]
    NoClient,
    #[error("the provider is not known")]
    NoProvider,
    #[error("the document of the provider is that of `{0}`, in place of `{1}`")]
    OtherIssuer(String, String),
    #[error("too many codes are exchanged at the provider")]
    Busy,
    #[error("the cryptographic library failed")]
    Cryptography,
    #[error("the callback has another method than GET")]
    Method,
    #[error(transparent)]
    Callback(#[from] CallbackError),
    #[error("the login has expired, or did not begin in this browser")]
    UnknownLogin,
    #[error("the callback is of another issuer")]
    ForeignCallback,
    #[error("the provider refused the login: {0:?}")]
    Refused(String),
    #[error("the token endpoint did not answer in time")]
    TimedOut,
    #[error("the token endpoint cannot be asked")]
    Exchange(#[from] ServiceError),
    #[error("the URL of the token endpoint cannot be asked")]
    Url(#[from] http::Error),
    #[error("the provider does not take the code")]
    CodeRefused,
    #[error("the token endpoint answered with status {}", .0.as_u16())]
    Status(StatusCode),
    #[error("the token endpoint gave no ID token")]
    NoIdToken,
    #[error("the keys of the provider are not known")]
    NoKeys,
    #[error("the ID token is refused: {0}")]
    IdToken(String),
    #[error("the claims do not fit into a cookie; name fewer in `auth-oidc-claims-to-headers`")]
    TooLong,
}

impl Failure {
    pub(super) fn of_token(failure: &token::Failure) -> Self {
        if matches!(failure, token::Failure::NoKeys) {
            Self::NoKeys
        } else {
            Self::IdToken(failure.reason())
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NoClient
            | Self::NoProvider
            | Self::OtherIssuer(..)
            | Self::Busy
            | Self::Cryptography
            | Self::TimedOut
            | Self::Exchange(_)
            | Self::NoKeys => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method
            | Self::Callback(_)
            | Self::UnknownLogin
            | Self::ForeignCallback
            | Self::CodeRefused => StatusCode::BAD_REQUEST,
            // RFC 6749 §4.1.2.1: the user, or a rule of the provider, says no.
            Self::Refused(error) if error == "access_denied" => StatusCode::FORBIDDEN,
            Self::Refused(_)
            | Self::Url(_)
            | Self::Status(_)
            | Self::NoIdToken
            | Self::IdToken(_) => StatusCode::BAD_GATEWAY,
            Self::TooLong => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The answer to the request. What a client can provoke at will is not worth a line in the log.
    pub(super) fn answer(self, checked: Checked<'_>) -> ProxyError {
        let counters = &checked.worker.runtime.counters;
        counters.oidc_login_failures.increment();
        let status = self.status();
        let host = checked.context.authority;
        let error = &self as &dyn std::error::Error;
        if status.is_server_error() && !matches!(self, Self::NoProvider | Self::Busy) {
            tracing::warn!(host, error, "login failed");
        } else {
            tracing::debug!(host, error, "login failed");
        }
        let no_store = HeaderValue::from_static("no-store");
        answered(Answer {
            text: match status {
                StatusCode::BAD_REQUEST => Some(EXPIRED),
                StatusCode::BAD_GATEWAY => Some("502 the login provider gave an unusable answer\n"),
                StatusCode::SERVICE_UNAVAILABLE => {
                    Some("503 the login provider cannot be reached\n")
                }
                _ => None,
            },
            fields: vec![(CACHE_CONTROL, no_store)],
            ..Answer::status(status)
        })
    }
}

const EXPIRED: &str =
    "400 the login has expired or did not begin in this browser; open the page again\n";
