//! Changes to fields of responses that name an endpoint's own host or paths.

use super::template::Template;

/// Changes to cookies and to Location.
///
/// Source: ingress-nginx, annotations `proxy-cookie-domain`, `proxy-cookie-path`,
/// `proxy-redirect-from` and `proxy-redirect-to`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseRewrite {
    /// The Domain of cookies.
    pub cookie_domain: Option<Replacement>,
    /// The Path of cookies, from its start.
    pub cookie_path: Option<Replacement>,
    /// Location and Refresh, from their start.
    pub location: Option<Replacement>,
}

/// A text and what stands in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The text to replace.
    pub from: Template,
    /// The replacement.
    pub to: Template,
}
