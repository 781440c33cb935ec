//! Reads values that the annotations for tokens and the annotations for logins share: URLs, names of objects,
//! lists of claims.

use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderName, Uri};

/// Claims and names of fields in lower case.
pub(super) type ClaimFields = Box<[(Box<str>, Box<str>)]>;

/// Texts with commas in between.
pub(super) fn list(value: &str) -> Result<Box<[Box<str>]>, String> {
    let parts: Box<[Box<str>]> = value.split(',').map(|part| part.trim().into()).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return Err(format!("`{value}` has an empty part"));
    }
    Ok(parts)
}

/// `claim: field`, with commas in between.
pub(super) fn fields(value: &str) -> Result<ClaimFields, String> {
    let pair = |text: &str| {
        let wrong = || format!("`{text}` is not `claim: field`");
        let (claim, field) = text.rsplit_once(':').ok_or_else(wrong)?;
        let claim = claim.trim();
        let field = HeaderName::from_bytes(field.trim().as_bytes()).map_err(|_| wrong())?;
        if !is_claim(claim) {
            return Err(wrong());
        }
        if OURS.contains(&field.as_str()) {
            return Err(format!("the field `{field}` cannot be set from a claim"));
        }
        Ok((claim.into(), field.as_str().into()))
    };
    list(value)?.iter().map(|text| pair(text)).collect()
}

/// Whether a text can be the name of a claim.
pub(super) fn is_claim(text: &str) -> bool {
    !text.is_empty() && !text.contains(|one: char| one.is_whitespace() || one.is_control())
}

/// `namespace/name`, or a name in the namespace of the Ingress.
pub(super) fn object(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let parts = value.split('/').count();
    if parts > 2 || value.split('/').any(str::is_empty) {
        return Err(format!("`{value}` is not the name of an object"));
    }
    Ok(value.into())
}

/// An absolute `http` or `https` URL.
pub(super) fn url(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let url = Uri::try_from(value).ok();
    let is_usable = url.is_some_and(|url| {
        let is_web = [Some(&Scheme::HTTP), Some(&Scheme::HTTPS)].contains(&url.scheme());
        is_web && url.host().is_some_and(|host| !host.is_empty())
    });
    if !is_usable {
        return Err(format!("`{value}` is not an absolute http or https URL"));
    }
    Ok(value.into())
}

/// Fields by which messages are framed or routed, in lower case.
const OURS: [&str; 8] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];
