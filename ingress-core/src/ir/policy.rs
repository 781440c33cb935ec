//! What an Ingress says about its routes, beside where they lead.
//!
//! One policy for each Ingress, shared by all its rules. Backends know nothing of it, so that two
//! Ingresses with different timeouts share the connections of their Service.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::Retries;
use super::bandwidth::Bandwidth;
use super::compression::Compression;
use super::error_pages::ErrorPages;
use super::filter::Filter;
use super::mirror::Mirror;
use super::oidc::OidcAuth;
use super::substitution::Substitution;
use super::tls_redirect::{Hsts, TlsRedirect};

/// Everything that an Ingress says about a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoutePolicy {
    /// What is done with requests and responses, in this order.
    pub filters: Box<[Filter]>,
    /// How long endpoints are waited for.
    pub timeouts: RouteTimeouts,
    /// When requests are retried on another endpoint.
    pub retries: Retries,
    /// Bytes that the body of a request may have; 0: any number. `None`: as the operator says.
    pub body_bytes_max: Option<u64>,
    /// When an endpoint is chosen for a request with a body.
    pub request_buffering: RequestBuffering,
    /// When clear-text requests are redirected to HTTPS.
    pub tls_redirect: TlsRedirect,
    /// The Strict-Transport-Security field of responses over TLS, where the host has a TLS section.
    pub hsts: Option<Arc<Hsts>>,
    /// Answers in place of errors.
    pub error_pages: Option<Arc<ErrorPages>>,
    /// Where copies of requests are sent.
    pub mirror: Option<Arc<Mirror>>,
    /// How fast responses may be.
    pub bandwidth: Option<Bandwidth>,
    /// How responses are compressed.
    pub compression: Option<Arc<Compression>>,
    /// What is replaced in response bodies.
    pub substitution: Option<Arc<Substitution>>,
    /// Whether requests are left out of the access log.
    pub is_unlogged: bool,
}

impl RoutePolicy {
    /// The logins that it asks for.
    pub fn oidc(&self) -> Option<&Arc<OidcAuth>> {
        self.filters.iter().find_map(|filter| {
            let Filter::Authenticate(asked) = filter else {
                return None;
            };
            asked.oidc.as_ref()
        })
    }
}

/// When an endpoint is chosen for a request with a body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestBuffering {
    /// After the first part of the body was read.
    #[default]
    On,
    /// Before the first byte of it.
    Off,
}

/// How long endpoints are waited for, in seconds. `None`: as the operator says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteTimeouts {
    /// Between two reads of a request body before an endpoint is chosen.
    pub client_body: Option<NonZeroU32>,
    /// For a connection.
    pub connect: Option<NonZeroU32>,
    /// Without a byte while a request is sent.
    pub send: Option<NonZeroU32>,
    /// Without a byte of the response, or in a tunnel.
    pub read: Option<NonZeroU32>,
    /// From a request's head to the end of its response, whatever moves.
    pub request: Option<NonZeroU32>,
}
