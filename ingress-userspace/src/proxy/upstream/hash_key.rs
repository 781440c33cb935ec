//! How requests are shared among endpoints where no Ingress says otherwise, and within which
//! bounds.

use std::net::IpAddr;
use std::time::Duration;

use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderName, HeaderValue, request};
use ingress_core::balance::hash;
use ingress_core::filter::{Context, render};
use ingress_core::ir::{Balance, HashBy};

use crate::proxy::runtime::field::{host_of, lines_in_one};

/// What holds for all backends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Balancing {
    /// How endpoints share requests.
    pub balance: Balance,
    /// For how long an endpoint that has come gets less than its share, more and more of it; zero:
    /// it gets all at once.
    pub slow_start: Duration,
    /// Requests that one worker has at one endpoint at a time; further ones wait. `None`: any
    /// number.
    pub requests_max: Option<u32>,
    /// Requests of one worker that wait for one backend; further ones are refused.
    pub pending_max: usize,
    /// How long one waits.
    pub pending_time: Duration,
}

impl Default for Balancing {
    fn default() -> Self {
        Self {
            balance: Balance::LeastRequest,
            slow_start: Duration::ZERO,
            requests_max: None,
            pending_max: 1024,
            pending_time: Duration::from_secs(5),
        }
    }
}

/// The hash of a request; `client` is the address of its client.
pub(crate) fn key(by: &HashBy, head: &request::Parts, client: &HeaderValue) -> u64 {
    match by {
        HashBy::ClientAddress => hash(client.as_bytes()),
        HashBy::Uri => {
            let target = head.uri.path_and_query();
            hash(target.map_or(&b"/"[..], |target| target.as_str().as_bytes()))
        }
        HashBy::Path => hash(head.uri.path().as_bytes()),
        HashBy::Host => hash(host_of(head).to_ascii_lowercase().as_slice()),
        HashBy::Field(name) => {
            let name = HeaderName::try_from(&**name).ok();
            let value = name.and_then(|name| lines_in_one(&head.headers, &name));
            hash(value.as_ref().map_or(&b""[..], |value| value.as_bytes()))
        }
        HashBy::Text(template) => hash(&render(template, &context(head, client))),
    }
}

/// A request as templates see it.
fn context<'a>(head: &'a request::Parts, client: &HeaderValue) -> Context<'a> {
    let target = head.uri.path_and_query();
    let client = client.to_str().ok().and_then(|text| text.parse().ok());
    Context {
        is_https: head.uri.scheme() == Some(&Scheme::HTTPS),
        method: head.method.as_str(),
        headers: &head.headers,
        authority: std::str::from_utf8(authority_of(head)).unwrap_or_default(),
        path: head.uri.path().as_bytes(),
        target: target.map_or(b"/", |target| target.as_str().as_bytes()),
        client: client.unwrap_or(IpAddr::from([0; 4])),
    }
}

/// The host and maybe a port that was asked for.
fn authority_of(head: &request::Parts) -> &[u8] {
    match head.uri.authority() {
        Some(authority) => authority.as_str().as_bytes(),
        None => head.headers.get(HOST).map_or(b"", HeaderValue::as_bytes),
    }
}
