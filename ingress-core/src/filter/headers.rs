//! Sets fields of a request or response, in place of those of the same name.
//!
//! Source: ingress-nginx, annotation `custom-headers`.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::ir::HeaderFields;

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

/// Removes fields by their names.
pub(super) fn remove(names: &[Box<str>], headers: &mut HeaderMap) {
    for name in names {
        headers.remove(&**name);
    }
}
