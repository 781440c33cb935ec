//! Sets of keys that sign tokens (RFC 7517), in Secrets and ConfigMaps.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::ir::{Filter, JwtAuth, JwtKeys};

/// The set of a Secret.
pub(super) fn of_secret(secret: &Secret) -> Result<Arc<str>, String> {
    let value = secret.data.as_ref().and_then(|data| data.get(KEY));
    let value = value.ok_or_else(|| format!("has no `{KEY}`"))?;
    let text = std::str::from_utf8(&value.0);
    read(text.map_err(|_| format!("has a `{KEY}` that is not UTF-8"))?)
}

/// The set of a ConfigMap.
pub(super) fn of_config_map(data: &BTreeMap<String, String>) -> Result<Arc<str>, String> {
    read(data.get(KEY).ok_or_else(|| format!("has no `{KEY}`"))?)
}

/// A set with at least one key that a token may be verified with.
fn read(text: &str) -> Result<Arc<str>, String> {
    let set: Value = serde_json::from_str(text)
        .map_err(|error| format!("has a `{KEY}` that is not JSON: {error}"))?;
    let keys = set["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let is_public = |key: &Value| matches!(key["kty"].as_str(), Some("RSA" | "EC" | "OKP"));
    if keys.iter().any(is_public) {
        Ok(text.into())
    } else {
        Err(format!(
            "has a `{KEY}` without a key of kind RSA, EC or OKP"
        ))
    }
}

/// Puts the set into the filters that ask for tokens.
pub(super) fn set(filters: &mut [Filter], keys: &Arc<str>) {
    for filter in filters {
        if let Filter::Authenticate(asked) = filter
            && let Some(jwt) = &asked.jwt
        {
            let mut asked = (**asked).clone();
            asked.jwt = Some(Arc::new(JwtAuth {
                keys: JwtKeys::Set(Arc::clone(keys)),
                ..(**jwt).clone()
            }));
            *filter = Filter::Authenticate(Arc::new(asked));
        }
    }
}

const KEY: &str = "jwks.json";
