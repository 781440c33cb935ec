//! Access to a route: users with passwords, tokens, logins, and an external service that decides.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::filter::{AccessList, TemplateFields};
use super::jwt::JwtAuth;
use super::oidc::OidcAuth;
use super::template::Template;

/// The checks that a client has to pass: addresses, a password, a token, a login, a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authentication {
    /// How many of the parts have to agree.
    pub satisfy: Satisfy,
    /// Networks of clients.
    pub sources: Option<AccessList>,
    /// Users with passwords (RFC 7617).
    pub basic: Option<BasicAuth>,
    /// A JSON Web Token.
    pub jwt: Option<Arc<JwtAuth>>,
    /// A login at an OpenID provider.
    pub oidc: Option<Arc<OidcAuth>>,
    /// A service that decides.
    pub external: Option<Arc<ExternalAuth>>,
}

/// How many parts of an authentication have to agree.
///
/// Source: nginx, directive `satisfy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Satisfy {
    /// Every one.
    #[default]
    All,
    /// One is enough.
    Any,
}

/// Users with passwords (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BasicAuth {
    /// The realm that browsers show: visible ASCII and spaces without quotes.
    pub realm: Arc<str>,
    /// The users and hashes of their passwords.
    pub users: Arc<Users>,
}

/// Users and the hashes of their passwords, as an htpasswd file has them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Users(pub BTreeMap<Box<str>, Box<str>>);

impl fmt::Debug for Users {
    /// The number of users only: hashes must not reach a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users", self.0.len())
    }
}

/// A service that decides about each request.
///
/// Source: ingress-nginx, annotations `auth-url` and its family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalAuth {
    /// Where it is asked: an absolute `http` or `https` URL.
    pub url: Template,
    /// The method that it is asked with: a token.
    pub method: Arc<str>,
    /// Whether the annotation names the method: the service gets the request's target then.
    pub is_method_given: bool,
    /// Where clients without a session are sent.
    pub signin: Option<Template>,
    /// The query parameter that tells the page of signing in where to return.
    pub redirect_parameter: Arc<str>,
    /// Fields of its answer that the endpoint gets, in lower case.
    pub response_headers: Box<[Box<str>]>,
    /// Fields that it gets besides those of the request.
    pub request_headers: TemplateFields,
    /// The value of X-Auth-Request-Redirect.
    pub request_redirect: Template,
    /// How long answers are kept, and by what.
    pub cache: Option<AuthCache>,
    /// Whether its cookies are set whatever the status of the response is.
    pub always_sets_cookie: bool,
}

/// How long answers of the service are kept, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthCache {
    /// Requests with the same text share an answer.
    pub key: Template,
    /// Statuses and seconds, the first that names a status counts.
    pub durations: Box<[(Box<[u16]>, u32)]>,
}

impl AuthCache {
    /// How many seconds an answer with this status is kept; 0: not at all.
    pub fn seconds(&self, status: u16) -> u32 {
        let mut all = self.durations.iter();
        all.find(|(statuses, _)| statuses.is_empty() || statuses.contains(&status))
            .map_or(0, |(_, seconds)| *seconds)
    }
}
