//! Does what the filters of a route say, to heads of requests and responses.
//!
//! Fifth station of a request: route → authorize → **filter** → pick → send. One file for each
//! filter, with the name that it has in `annotation`.
//!
//! Architecture invariant: filters are pure. They run in the order of the policy, change only what
//! they name, and a filter that answers a request itself ends the list, so that nothing behind it
//! can let a refused request pass.

mod access;
mod app_root;
mod block;
pub mod compression;
mod cors;
mod headers;
mod host_redirect;
mod order;
mod respond;
mod response_rewrite;
mod rewrite;
pub mod substitution;
mod template;
mod tls_redirect;

use std::net::IpAddr;
use std::sync::Arc;

use http::header::ORIGIN;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::ir::{Authentication, Filter, RateLimit};
pub use order::{in_order, redirects_to_https};
pub use template::{cookie_value, escape, render};

/// The parts of a request that filters read and do not change.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whether the client speaks HTTPS, as far as is known.
    pub is_https: bool,
    /// The method.
    pub method: &'a str,
    /// The fields of the request.
    pub headers: &'a HeaderMap,
    /// The host and maybe a port, as the client sent it.
    pub authority: &'a str,
    /// The path after normalisation.
    pub path: &'a [u8],
    /// Path and query as the client sent them.
    pub target: &'a [u8],
    /// The client's address.
    pub client: IpAddr,
}

/// The parts of a request that filters may change.
#[derive(Debug)]
pub struct RequestHead<'a> {
    /// Fields that are set in it.
    pub headers: &'a mut HeaderMap,
    /// The path that the endpoint gets in place of the client's, percent-encoded. The query stays.
    pub path: Option<String>,
    /// The host that the endpoint is told in place of the client's.
    pub host: Option<HeaderValue>,
}

/// The result of running filters over a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Decision {
    /// The request goes on.
    Continue,
    /// The proxy answers the request.
    Respond(Answer),
    /// The client gets no answer.
    Close,
    /// The request goes on if this check passes. The check needs more than the request, such as a
    /// password check or a call to a service.
    Check {
        /// The check.
        check: Check,
        /// The index of the filter after it.
        resume: usize,
    },
}

/// A check that needs more than the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// Passwords, or a service elsewhere.
    Authenticate(Arc<Authentication>),
    /// The rate of the client's earlier requests.
    RateLimit(Arc<RateLimit>),
}

/// An answer without a body of an endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Where the client is sent.
    pub location: Option<HeaderValue>,
    /// Other fields.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Its body, in one line; `None`: the one of its status.
    pub text: Option<&'static str>,
}

impl Answer {
    /// A status and nothing else.
    pub fn status(status: StatusCode) -> Self {
        Self {
            status,
            location: None,
            fields: Vec::new(),
            text: None,
        }
    }

    /// A redirect; 400 if the location cannot stand in a field, as of a request whose target has
    /// control characters.
    pub fn redirect(code: u16, location: &[u8]) -> Self {
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::FOUND);
        match HeaderValue::from_bytes(location) {
            Ok(location) => Self {
                status,
                location: Some(location),
                ..Self::status(status)
            },
            Err(_) => Self::status(StatusCode::BAD_REQUEST),
        }
    }
}

/// Applies filters to the head of a request, in their order, beginning with the one at index `from`,
/// until one answers it or leaves the decision to a [`Check`].
pub fn on_request(
    filters: &[Filter],
    from: usize,
    head: &mut RequestHead<'_>,
    context: &Context<'_>,
) -> Decision {
    for (index, filter) in filters.iter().enumerate().skip(from) {
        let check = |check| Decision::Check {
            check,
            resume: index + 1,
        };
        let decision = match filter {
            Filter::Access(list) => access::on_request(list, context),
            Filter::Block(block) => block::on_request(block, context),
            Filter::AppRoot(root) => app_root::on_request(root, context),
            Filter::Authenticate(asked) => check(Check::Authenticate(Arc::clone(asked))),
            Filter::RateLimit(limit) if limit.is_exempt(context.client) => Decision::Continue,
            Filter::RateLimit(limit) => check(Check::RateLimit(Arc::clone(limit))),
            Filter::Cors(cors) => cors::on_request(cors, context),
            Filter::HostRedirect(redirect) => host_redirect::on_request(redirect, context),
            Filter::Respond(respond) => respond::on_request(respond, context),
            Filter::TlsRedirect(redirect) => tls_redirect::on_request(*redirect, context),
            Filter::Rewrite(rewrite) => rewrite::on_request(rewrite, head, context),
            Filter::RequestHeaders(fields) => {
                headers::render(fields, head.headers, context);
                Decision::Continue
            }
            Filter::UpstreamHost(host) => {
                head.host = HeaderValue::from_str(host).ok();
                Decision::Continue
            }
            Filter::ResponseHeaders(_)
            | Filter::HideHeaders(_)
            | Filter::ResponseRewrite(_)
            | Filter::Hsts(_) => Decision::Continue,
        };
        if decision != Decision::Continue {
            return decision;
        }
    }
    Decision::Continue
}

/// Whether filters need the request when its response comes.
pub fn need_request(filters: &[Filter]) -> bool {
    let needs = |filter: &Filter| matches!(filter, Filter::Cors(_) | Filter::ResponseRewrite(_));
    filters.iter().any(needs)
}

/// Applies filters to the fields of a response to this request.
pub fn on_response(filters: &[Filter], fields: &mut HeaderMap, context: &Context<'_>) {
    for filter in filters {
        match filter {
            Filter::ResponseHeaders(set) => headers::set(set, fields),
            Filter::HideHeaders(hidden) => headers::remove(hidden, fields),
            Filter::ResponseRewrite(rewrite) => {
                response_rewrite::on_response(rewrite, context, fields);
            }
            Filter::Cors(cors) => {
                cors::on_response(cors, context.headers.get(ORIGIN), fields);
            }
            Filter::Hsts(hsts) if context.is_https => tls_redirect::set_hsts(hsts, fields),
            Filter::Hsts(_)
            | Filter::Access(_)
            | Filter::Block(_)
            | Filter::AppRoot(_)
            | Filter::Authenticate(_)
            | Filter::HostRedirect(_)
            | Filter::Respond(_)
            | Filter::RateLimit(_)
            | Filter::TlsRedirect(_)
            | Filter::Rewrite(_)
            | Filter::UpstreamHost(_)
            | Filter::RequestHeaders(_) => {}
        }
    }
}

/// The host of an authority, without its port.
pub fn host_of(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        // The colons of an IPv6 address are within brackets.
        Some((host, port)) if !port.contains(']') => host,
        Some(_) | None => authority,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request with these fields.
    pub(super) fn context(headers: &HeaderMap) -> Context<'_> {
        Context {
            is_https: false,
            method: "GET",
            headers,
            authority: "a.test",
            path: b"/",
            target: b"/",
            client: [127, 0, 0, 1].into(),
        }
    }

    #[test]
    fn host_is_what_stands_before_the_port() {
        for (authority, host) in [
            ("a.test", "a.test"),
            ("a.test:8080", "a.test"),
            ("[::1]", "[::1]"),
            ("[::1]:80", "[::1]"),
            ("", ""),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }

    #[test]
    fn location_with_control_characters_is_a_bad_request() {
        let answer = Answer::redirect(302, b"https://a.test/\r\nX: y");
        assert_eq!(answer, Answer::status(StatusCode::BAD_REQUEST));
    }
}
