//! Fields of responses, by ingress-nginx's names: `custom-headers` and the ConfigMap key
//! `global-allowed-response-headers`.
//!
//! Invariant: a value never reaches a field with a byte that a field may not have.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use thiserror::Error;

use super::template::template;
use super::{PREFIXES, Settings};
use crate::ir::{HeaderFields, TemplateFields};

/// Source: ingress-nginx, annotation `custom-headers`: `namespace/name` of a ConfigMap.
pub(super) fn custom_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    // Whether it exists is for the step that reads ConfigMaps to say.
    settings.custom_headers = Some(value.trim().into());
    reference(value)?;
    Ok(())
}

/// `namespace/name` of an object.
pub(super) fn reference(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let is_reference =
        value.split('/').count() == 2 && value.split('/').all(|part| !part.is_empty());
    if is_reference {
        Ok(value.into())
    } else {
        Err(format!("`{value}` is not `namespace/name`"))
    }
}

/// Source: ingress-nginx, ConfigMap key `global-allowed-response-headers`: names with commas
/// between them.
pub(super) fn allowed(value: &str, settings: &mut Settings) -> Result<(), String> {
    let names = value.split(',').map(str::trim);
    let names = names.filter(|name| !name.is_empty());
    let names: Result<_, String> = names
        .map(|name| {
            let name = HeaderName::from_bytes(name.as_bytes());
            let name = name.map_err(|_| format!("`{value}` is not a list of fields; ignored"))?;
            Ok(name.as_str().into())
        })
        .collect();
    settings.response_headers_allowed = names?;
    Ok(())
}

/// Kinds and names of the objects that annotations refer to, as they stand.
pub(crate) fn referenced(
    annotations: &BTreeMap<String, String>,
) -> impl Iterator<Item = (&'static str, &str)> {
    annotations.iter().filter_map(|(key, value)| {
        let name = PREFIXES
            .iter()
            .find_map(|prefix| key.strip_prefix(prefix))?;
        let (_, kind) = REFERENCES.iter().find(|(known, _)| *known == name)?;
        Some((*kind, value.as_str()))
    })
}

/// Keys whose values name an object, and its kind.
const REFERENCES: [(&str, &str); 7] = [
    ("custom-headers", "ConfigMap"),
    ("auth-proxy-set-headers", "ConfigMap"),
    ("auth-jwt-jwks-config-map", "ConfigMap"),
    ("auth-jwt-jwks-secret", "Secret"),
    ("auth-oidc-secret", "Secret"),
    ("auth-secret", "Secret"),
    ("proxy-ssl-secret", "Secret"),
];

/// Why a ConfigMap gives no fields.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HeadersError {
    /// A key is not the name of a field.
    #[error("`{0}` is not the name of a field")]
    Name(String),
    /// A value has a byte that the value of a field may not have.
    #[error("the value of `{0}` has a byte that a field may not have")]
    Value(String),
    /// A value has a variable that is not known.
    #[error("the value of `{0}` has an unknown variable")]
    Variable(String),
    /// The class does not allow the field.
    #[error("`{0}` is not in global-allowed-response-headers of the class")]
    NotAllowed(String),
}

/// The fields in the `data` of a ConfigMap.
///
/// # Errors
///
/// [`HeadersError`] for the first entry that is invalid.
pub(crate) fn header_fields(data: &BTreeMap<String, String>) -> Result<HeaderFields, HeadersError> {
    let field = |(key, value): (&String, &String)| {
        let name =
            HeaderName::from_bytes(key.as_bytes()).map_err(|_| HeadersError::Name(key.clone()))?;
        let value = value.trim();
        HeaderValue::from_str(value).map_err(|_| HeadersError::Value(key.clone()))?;
        Ok((name.as_str().into(), value.into()))
    };
    data.iter().map(field).collect()
}

/// The fields in the `data` of a ConfigMap, whose values may have variables.
///
/// # Errors
///
/// [`HeadersError`] for the first entry that is invalid.
pub(crate) fn template_fields(
    data: &BTreeMap<String, String>,
) -> Result<TemplateFields, HeadersError> {
    let fields = header_fields(data)?;
    let field = |(name, value): &(Box<str>, Box<str>)| {
        let value = template(value).map_err(|_| HeadersError::Variable(name.to_string()))?;
        Ok((name.clone(), value))
    };
    fields.iter().map(field).collect()
}

/// The fields in the `data` of a ConfigMap that a tenant may set on responses.
///
/// # Errors
///
/// [`HeadersError`] for the first entry that is invalid or that the class does not allow.
pub fn response_headers(
    data: &BTreeMap<String, String>,
    allowed: &[Box<str>],
) -> Result<HeaderFields, HeadersError> {
    let fields = header_fields(data)?;
    let is_allowed = |name: &str| allowed.iter().any(|allowed| **allowed == *name);
    let refused = fields.iter().find(|(name, _)| !is_allowed(name));
    match refused {
        None => Ok(fields),
        Some((refused, _)) => {
            let same = |key: &&String| key.eq_ignore_ascii_case(refused);
            let key = data.keys().find(same).cloned();
            Err(HeadersError::NotAllowed(key.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(entries: &[(&str, &str)], allowed: &[&str]) -> Result<HeaderFields, HeadersError> {
        let data = entries.iter();
        let data = data.map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let allowed: Vec<Box<str>> = allowed.iter().map(|name| (*name).into()).collect();
        response_headers(&data.collect(), &allowed)
    }

    #[test]
    fn fields_have_to_be_valid_and_allowed() {
        let fields = read(&[("X-Frame", " DENY ")], &["x-frame"]).unwrap();
        assert_eq!(*fields, [("x-frame".into(), "DENY".into())]);
        let name = |name: &str| name.to_owned();
        assert_eq!(
            read(&[("X-Frame", "DENY")], &[]),
            Err(HeadersError::NotAllowed(name("X-Frame")))
        );
        assert_eq!(
            read(&[("X Frame", "DENY")], &["x frame"]),
            Err(HeadersError::Name(name("X Frame")))
        );
        assert_eq!(
            read(&[("X-A", "b\r\nX-B: c")], &["x-a"]),
            Err(HeadersError::Value(name("X-A")))
        );
    }
}
