//! What is done with the requests and responses of a route, as plain data.
//!
//! A closed set: the executing side is `filter`, with a file for each of these, and the reading
//! side `annotation`, with the same names.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::authentication::Authentication;
use super::block::Block;
use super::condition::Condition;
use super::cors::Cors;
use super::matches::PathRegex;
use super::rate_limit::RateLimit;
use super::response_rewrite::ResponseRewrite;
use super::template::Template;
use super::tls_redirect::{Hsts, TlsRedirect};

/// One thing that is done with requests or responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Gives some clients nothing.
    Block(Arc<Block>),
    /// Lets only clients of some networks in.
    Access(AccessList),
    /// Lets only clients in that show something.
    Authenticate(Arc<Authentication>),
    /// Answers preflight requests and tells browsers which origins may read.
    Cors(Arc<Cors>),
    /// Answers requests.
    Respond(Arc<Respond>),
    /// Sends every request to another host.
    HostRedirect(Arc<HostRedirect>),
    /// Bounds the requests of each client.
    RateLimit(Arc<RateLimit>),
    /// Sends requests for the root elsewhere.
    AppRoot(Arc<str>),
    /// Redirects clear-text requests to HTTPS.
    TlsRedirect(TlsRedirect),
    /// Changes the request target.
    Rewrite(Rewrite),
    /// Tells endpoints another host than the client's.
    UpstreamHost(Arc<str>),
    /// Sets fields of the request.
    RequestHeaders(TemplateFields),
    /// Sets fields of the response.
    ResponseHeaders(HeaderFields),
    /// Removes fields of the response, by their names in lower case.
    HideHeaders(Arc<[Box<str>]>),
    /// Replaces what an endpoint says about its own host and paths.
    ResponseRewrite(Arc<ResponseRewrite>),
    /// Sets Strict-Transport-Security on responses over TLS.
    Hsts(Arc<Hsts>),
}

/// Networks of clients that get in, and of those that do not.
///
/// Source: ingress-nginx, annotations `allowlist-source-range` and `denylist-source-range`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessList {
    /// Only these get in; `None`: all that are not denied.
    pub allow: Option<Box<[IpNet]>>,
    /// These do not get in, even if they are allowed.
    pub deny: Box<[IpNet]>,
    /// What other clients get.
    pub denial: Denial,
}

/// What a client gets that does not get in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Denial {
    /// An answer with 403.
    #[default]
    Forbidden,
    /// No answer: its connection is closed, or its HTTP/2 stream is reset.
    Close,
}

impl AccessList {
    /// Whether there is anything that keeps clients out.
    pub fn restricts(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty()
    }

    /// Whether a client at this address gets in.
    pub fn admits(&self, client: IpAddr) -> bool {
        let client = client.to_canonical();
        let is_in = |networks: &[IpNet]| networks.iter().any(|network| network.contains(&client));
        !is_in(&self.deny) && self.allow.as_deref().is_none_or(is_in)
    }
}

/// An answer to every request that satisfies conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Respond {
    /// All of them have to hold; none: every request is answered.
    pub conditions: Box<[Condition]>,
    /// Its status.
    pub status: u16,
    /// Where the client is sent. Groups in it are those of the last expression of the conditions.
    pub location: Option<Template>,
}

/// A redirect to another host with the same scheme, port and target.
///
/// Source: ingress-nginx, annotation `from-to-www-redirect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRedirect {
    /// The other host.
    pub host: Box<str>,
    /// Status of the answer.
    pub code: u16,
}

/// A new request target for requests whose path matches.
///
/// Source: ingress-nginx, annotation `rewrite-target`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The path of the rule, not anchored.
    pub pattern: Arc<PathRegex>,
    /// The new path.
    pub template: Box<[TemplatePart]>,
}

/// A part of a new path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// As it stands.
    Text(Box<str>),
    /// What a group of the pattern has matched; 0: all of it.
    Group(usize),
}

/// Names and values of fields, which replace fields of the same name. Names are lower-case tokens,
/// values hold no control character.
pub type HeaderFields = Arc<[(Box<str>, Box<str>)]>;

/// Names of fields and the templates of their values, which replace fields of the same name. Names are
/// lower-case tokens.
pub type TemplateFields = Arc<[(Box<str>, Template)]>;
