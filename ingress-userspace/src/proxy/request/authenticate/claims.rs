//! Claims of tokens, and the fields that tell the endpoint of them.

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

/// Fields for the endpoint; `None` removes one.
pub(super) type ClaimFields = Vec<(HeaderName, Option<HeaderValue>)>;

/// Claims, and the names of their fields.
type Pairs = [(Box<str>, Box<str>)];

/// Removes the fields that claims are told in, whatever becomes of the request.
pub(super) fn unclaimed(pairs: &Pairs) -> ClaimFields {
    pairs
        .iter()
        .filter_map(|(_, name)| field(name, None))
        .collect()
}

/// The fields that tell the endpoint of claims.
pub(super) fn fields(pairs: &Pairs, claims: &Map<String, Value>) -> ClaimFields {
    let pairs = pairs.iter().filter_map(|(claim, name)| {
        let text = claims.get(&**claim).and_then(text);
        field(name, text.as_deref())
    });
    pairs.collect()
}

/// A field of a claim.
pub(super) fn field(name: &str, claim: Option<&str>) -> Option<(HeaderName, Option<HeaderValue>)> {
    let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
    // A claim with a byte that a field may not have is as good as none.
    let value = claim.and_then(|text| HeaderValue::try_from(text).ok());
    Some((name, value))
}

/// A claim as text: lists with commas, nothing for objects.
pub(super) fn text(claim: &Value) -> Option<String> {
    match claim {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Array(parts) => {
            let parts: Option<Vec<_>> = parts.iter().map(text).collect();
            parts.map(|parts| parts.join(","))
        }
        Value::Null | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn claims_become_text_or_nothing() {
        for (claim, expected) in [
            (json!("a"), Some("a")),
            (json!(7), Some("7")),
            (json!(true), Some("true")),
            (json!(["a", "b"]), Some("a,b")),
            (json!([]), Some("")),
            (json!([{}]), None),
            (json!({}), None),
            (Value::Null, None),
        ] {
            assert_eq!(text(&claim).as_deref(), expected, "{claim}");
        }
    }
}
