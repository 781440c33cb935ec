//! Sets fields of a request or response, in place of those of the same name.
//!
//! Source: ingress-nginx, annotation `custom-headers`.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::{Context, template};
use crate::ir::{HeaderFields, TemplateFields};

pub(super) fn set(fields: &HeaderFields, headers: &mut HeaderMap) {
    for (name, value) in &**fields {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_str(value);
        debug_assert!(
            name.is_ok() && value.is_ok(),
            "annotations are checked when they are read"
        );
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.insert(name, value);
        }
    }
}

/// Sets fields whose values have variables of the request. A value that a field may not have, as of a
/// path with control characters, is empty: the endpoint never gets the client's in its place.
pub(super) fn render(fields: &TemplateFields, headers: &mut HeaderMap, context: &Context<'_>) {
    for (name, value) in &**fields {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            continue;
        };
        let value = HeaderValue::from_bytes(&template::render(value, context));
        headers.insert(name, value.unwrap_or(HeaderValue::from_static("")));
    }
}

/// Removes fields by their names.
pub(super) fn remove(names: &[Box<str>], headers: &mut HeaderMap) {
    for name in names {
        headers.remove(&**name);
    }
}
