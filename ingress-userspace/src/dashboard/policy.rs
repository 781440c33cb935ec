//! The header fields of every answer of the dashboard. Pure.

use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderMap, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};

/// How long a browser may keep an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Caching {
    /// Not at all: data and refusals.
    Never,
    /// For a year: its path changes with its content.
    Forever,
}

/// Puts the fields on an answer, whatever it is.
pub(super) fn protect(fields: &mut HeaderMap, caching: Caching) {
    for (name, value) in PROTECTIONS {
        fields.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    fields.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    fields.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    fields.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT));
    let kept = match caching {
        Caching::Never => "no-store",
        Caching::Forever => "public, max-age=31536000, immutable",
    };
    fields.insert(CACHE_CONTROL, HeaderValue::from_static(kept));
}

/// Scripts, styles and data from here alone, none inline; no text becomes markup.
pub(super) const CONTENT: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'";

const PROTECTIONS: [(&str, &str); 3] = [
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), geolocation=(), microphone=()",
    ),
];
