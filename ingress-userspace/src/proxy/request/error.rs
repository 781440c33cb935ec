//! Requests that end in an answer of our own: why, whose fault, which status.
//!
//! A body says in one line what a client may know, and nothing about software or versions.

use std::sync::Arc;

use http::{HeaderName, HeaderValue, StatusCode};
use ingress_core::filter::Answer;
use ingress_core::route::PathError;
use thiserror::Error;

use crate::proxy::tls::client_auth::Refusal;
use crate::proxy::upstream::error::{Retry, UpstreamError};
use crate::proxy::upstream::service_client::ServiceError;

/// Why a request is not answered by an endpoint.
#[derive(Debug, Error)]
pub(crate) enum ProxyError {
    /// Downstream: the request head is not one that may be forwarded.
    #[error(transparent)]
    BadRequest(#[from] BadRequest),
    /// Downstream: the body broke off or is malformed.
    #[error("request body broke off or is malformed")]
    BadRequestBody,
    /// Downstream: the body has more bytes than the route takes.
    #[error("request body is too large")]
    BodyTooLarge,
    /// Downstream: the body came too slowly.
    #[error("request body came too slowly")]
    RequestTimedOut,
    /// Downstream: the host wants a client certificate and there is none.
    #[error("client presented no certificate")]
    NoCertificate,
    /// Downstream: the host does not take the client's certificate.
    #[error("client presented an invalid certificate")]
    BadCertificate,
    /// Downstream: the host does not take clients of this name.
    #[error("client certificate has a name that the host does not allow")]
    OtherClient,
    /// Downstream: as one of these two, for a host that has a page about it.
    #[error("client presented no valid certificate")]
    ErrorPage(HeaderValue),
    /// Downstream: the connection was made for a host that asks for something else.
    #[error("request is for another host than its connection")]
    Misdirected,
    /// The host wants client certificates and its authorities can't be read.
    #[error("client CA could not be loaded")]
    NobodyTrusted,
    /// A filter of the route has answered.
    #[error("route answered with {}", .0.status)]
    Answered(Box<Answer>),
    /// The request is an ACME server's, and this is its answer (RFC 8555 §8.3).
    #[error("request of an ACME server")]
    Challenge(Arc<str>),
    /// A filter of the route keeps the client out, and it is to get no answer.
    #[error("route closes connections of the client")]
    Unanswered,
    /// The service that decides about clients could not be asked.
    #[error("authentication service failed")]
    AuthService(#[source] ServiceError),
    /// No rule and no default backend matches.
    #[error("no route matches")]
    NoRoute,
    /// The rule's target cannot be served, as a diagnostic says.
    #[error("route has a target that cannot be served")]
    Unavailable,
    /// The client, or the Ingress, has said how long the request may take, and that is over.
    #[error("request deadline exceeded")]
    DeadlineExceeded,
    /// No endpoint has answered it.
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
}

/// Whose fault a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The client's.
    Downstream,
    /// What objects say, or say wrongly.
    Configuration,
    /// The endpoint's, or that there is none.
    Upstream,
}

/// Why a request head may not be forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadRequest {
    /// RFC 9112 §3.2 and RFC 9113 §8.3.1.
    #[error("request has no host")]
    NoHost,
    /// RFC 9112 §3.2.
    #[error("request has more than one host")]
    SeveralHosts,
    /// RFC 9110 §8.6.
    #[error("request has more than one length")]
    SeveralLengths,
    /// RFC 9110 §7.2.
    #[error("request has an invalid host")]
    MalformedHost,
    /// RFC 3986 §3.3, and paths that endpoints could read in two ways.
    #[error(transparent)]
    Path(PathError),
    /// RFC 9112 §3.2.
    #[error("request has an invalid target")]
    Target,
    /// Only a forward proxy connects to what the client names (RFC 9110 §9.3.6).
    #[error("request is for a tunnel")]
    Connect,
}

impl From<Refusal> for ProxyError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NobodyTrusted => Self::NobodyTrusted,
            Refusal::Misdirected => Self::Misdirected,
            Refusal::NoCertificate => Self::NoCertificate,
            Refusal::BadCertificate => Self::BadCertificate,
            Refusal::OtherClient => Self::OtherClient,
            Refusal::ErrorPage(page) => Self::ErrorPage(page),
        }
    }
}

impl ProxyError {
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            // nginx's 495 and 496 are 400 on the wire.
            Self::BadRequest(_)
            | Self::BadRequestBody
            | Self::NoCertificate
            | Self::BadCertificate => StatusCode::BAD_REQUEST,
            Self::ErrorPage(_) => StatusCode::FOUND,
            Self::Answered(answer) => answer.status,
            Self::Challenge(_) => StatusCode::OK,
            // nginx's name for it, which no client sees.
            Self::Unanswered => StatusCode::from_u16(444).unwrap_or(StatusCode::FORBIDDEN),
            Self::AuthService(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::NobodyTrusted | Self::OtherClient => StatusCode::FORBIDDEN,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimedOut => StatusCode::REQUEST_TIMEOUT,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::Upstream(error) => upstream_status(error),
        }
    }

    /// Whose fault it is.
    pub(crate) fn side(&self) -> Side {
        match self {
            Self::BadRequest(_)
            | Self::BadRequestBody
            | Self::BodyTooLarge
            | Self::RequestTimedOut
            | Self::NoCertificate
            | Self::BadCertificate
            | Self::OtherClient
            | Self::ErrorPage(_)
            | Self::Misdirected => Side::Downstream,
            Self::NobodyTrusted
            | Self::Answered(_)
            | Self::Challenge(_)
            | Self::Unanswered
            | Self::NoRoute
            | Self::Unavailable => Side::Configuration,
            Self::AuthService(_) | Self::Upstream(_) | Self::DeadlineExceeded => Side::Upstream,
        }
    }

    /// Whether another attempt may follow this error, and at what cost.
    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Upstream(error) => error.retry(),
            Self::BadRequest(_)
            | Self::BadRequestBody
            | Self::BodyTooLarge
            | Self::RequestTimedOut
            | Self::NoCertificate
            | Self::BadCertificate
            | Self::OtherClient
            | Self::ErrorPage(_)
            | Self::Misdirected
            | Self::NobodyTrusted
            | Self::Answered(_)
            | Self::Challenge(_)
            | Self::Unanswered
            | Self::AuthService(_)
            | Self::NoRoute
            | Self::Unavailable
            | Self::DeadlineExceeded => Retry::default(),
        }
    }

    /// Where the client is sent.
    pub(crate) fn location(&self) -> Option<&HeaderValue> {
        if let Self::ErrorPage(page) = self {
            return Some(page);
        }
        if let Self::Answered(answer) = self {
            return answer.location.as_ref();
        }
        None
    }

    /// Fields of the answer, beside Location.
    pub(crate) fn fields(&self) -> &[(HeaderName, HeaderValue)] {
        if let Self::Answered(answer) = self {
            return &answer.fields;
        }
        &[]
    }

    /// The body of the answer.
    pub(crate) fn text(&self) -> &'static str {
        match self {
            Self::BadRequest(_) | Self::BadRequestBody => "400 bad request\n",
            Self::NoCertificate => "400 no client certificate was sent\n",
            Self::BadCertificate => "400 the client certificate is not good\n",
            Self::ErrorPage(_) => "302 found\n",
            Self::Answered(answer) => answer.text.unwrap_or(match answer.status {
                StatusCode::NO_CONTENT => "",
                StatusCode::UNAUTHORIZED => "401 unauthorized\n",
                StatusCode::FORBIDDEN => "403 forbidden\n",
                StatusCode::TOO_MANY_REQUESTS => "429 too many requests\n",
                StatusCode::INTERNAL_SERVER_ERROR => "500 internal server error\n",
                StatusCode::BAD_REQUEST => "400 bad request\n",
                StatusCode::URI_TOO_LONG => "414 the request target is too long\n",
                status if status.is_redirection() => "see Location\n",
                _ => "503 service unavailable\n",
            }),
            Self::Unanswered | Self::Challenge(_) => "",
            Self::AuthService(_) => "500 internal server error\n",
            Self::Misdirected => "421 misdirected request\n",
            Self::NobodyTrusted | Self::OtherClient => "403 forbidden\n",
            Self::BodyTooLarge => "413 request body is too large\n",
            Self::RequestTimedOut => "408 request timeout\n",
            Self::NoRoute => "404 no route for this host and path\n",
            Self::Unavailable => "503 no endpoint is ready\n",
            Self::Upstream(error) => upstream_text(error),
            Self::DeadlineExceeded => "504 deadline exceeded\n",
        }
    }
}

fn upstream_status(error: &UpstreamError) -> StatusCode {
    match error {
        UpstreamError::NoTunnel => StatusCode::NOT_IMPLEMENTED,
        UpstreamError::NoEndpoint | UpstreamError::Left | UpstreamError::Full => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        UpstreamError::Connect(_)
        | UpstreamError::Broken(_)
        | UpstreamError::Unreached
        | UpstreamError::Unsent
        | UpstreamError::Switched
        | UpstreamError::NotSwitched => StatusCode::BAD_GATEWAY,
        UpstreamError::ConnectTimedOut
        | UpstreamError::Overtaken
        | UpstreamError::ResponseTimedOut => StatusCode::GATEWAY_TIMEOUT,
    }
}

fn upstream_text(error: &UpstreamError) -> &'static str {
    match error {
        UpstreamError::NoTunnel => "501 the endpoint takes no tunnels over HTTP/2\n",
        UpstreamError::NoEndpoint | UpstreamError::Left => "503 no endpoint is ready\n",
        UpstreamError::Full => "503 too many requests for this backend\n",
        UpstreamError::Connect(_)
        | UpstreamError::Broken(_)
        | UpstreamError::Unreached
        | UpstreamError::Unsent
        | UpstreamError::Switched
        | UpstreamError::NotSwitched => "502 bad gateway\n",
        UpstreamError::ConnectTimedOut
        | UpstreamError::Overtaken
        | UpstreamError::ResponseTimedOut => "504 gateway timeout\n",
    }
}
