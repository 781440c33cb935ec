//! The answer of the provider, which the user's browser carries: the query of the callback path
//! (RFC 6749 §4.1.2, RFC 9207).

use thiserror::Error;

/// The parameters of a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Callback {
    /// The login that it belongs to.
    pub state: String,
    /// The issuer that it says it is from, if it says so.
    pub issuer: Option<String>,
    /// What the provider has decided.
    pub outcome: Outcome,
}

/// What the provider has decided about a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The code that is exchanged for tokens.
    Code(String),
    /// No, for this reason.
    Refused(String),
}

/// Why a query is not that of a callback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallbackError {
    /// RFC 6749 §3.1: parameters must not be included more than once.
    #[error("parameter `{0}` is there more than once")]
    Twice(&'static str),
    /// A parameter that is needed.
    #[error("parameter `{0}` is missing")]
    Missing(&'static str),
    /// One that is longer than any provider makes it, or not UTF-8.
    #[error("parameter `{0}` cannot be read")]
    Unreadable(&'static str),
}

impl Callback {
    /// Reads the query of a request target. Parameters that mean nothing here are left out.
    ///
    /// # Errors
    ///
    /// [`CallbackError`] for a query without a state, or with neither a code nor an error.
    pub fn parse(query: &[u8]) -> Result<Self, CallbackError> {
        let mut found: [Option<String>; NAMES.len()] = [const { None }; NAMES.len()];
        for parameter in query.split(|byte| *byte == b'&') {
            let at = parameter.iter().position(|byte| *byte == b'=');
            let (name, value) = parameter.split_at(at.unwrap_or(parameter.len()));
            let known = NAMES.iter().zip(&mut found);
            let mut known = known.filter(|((known, _), _)| known.as_bytes() == name);
            if let Some(((name, bytes_max), slot)) = known.next() {
                if slot.is_some() {
                    return Err(CallbackError::Twice(name));
                }
                let value = value.get(1..).unwrap_or_default();
                *slot = Some(decode(value, *bytes_max).ok_or(CallbackError::Unreadable(name))?);
            }
        }
        let [state, code, error, issuer] = found;
        Ok(Self {
            state: state.ok_or(CallbackError::Missing("state"))?,
            issuer,
            outcome: match (error, code) {
                (Some(error), _) => Outcome::Refused(error),
                (None, Some(code)) if !code.is_empty() => Outcome::Code(code),
                (None, _) => return Err(CallbackError::Missing("code")),
            },
        })
    }
}

/// Decodes a value of a form (WHATWG URL, "application/x-www-form-urlencoded parsing").
fn decode(value: &[u8], bytes_max: usize) -> Option<String> {
    if value.len() > bytes_max {
        return None;
    }
    let mut decoded = Vec::with_capacity(value.len());
    let mut rest = value;
    while let [byte, after @ ..] = rest {
        rest = after;
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let [high, low, after @ ..] = after else {
                    return None;
                };
                rest = after;
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                u8::try_from(digit(high)? * 16 + digit(low)?).ok()?
            }
            other => *other,
        });
    }
    String::from_utf8(decoded).ok()
}

/// The parameters that mean something, and how many bytes they may have as they stand in the query.
const NAMES: [(&str, usize); 4] = [
    ("state", 256),
    ("code", 8192),
    ("error", 256),
    ("iss", 2048),
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_callback_has_a_state_and_a_code_or_an_error() {
        let callback = Callback::parse(b"code=a%2Fb+c&state=xyz&session_state=1").unwrap();
        assert_eq!((&*callback.state, callback.issuer), ("xyz", None));
        assert_eq!(callback.outcome, Outcome::Code("a/b c".to_owned()));
        let callback = Callback::parse(b"error=access_denied&state=x&iss=https%3A%2F%2Fid.test");
        let callback = callback.unwrap();
        assert_eq!(callback.issuer.as_deref(), Some("https://id.test"));
        assert_eq!(
            callback.outcome,
            Outcome::Refused("access_denied".to_owned())
        );
    }

    #[test]
    fn other_queries_are_refused() {
        let long = format!("state=x&code={}", "y".repeat(8193));
        for (query, error) in [
            ("", CallbackError::Missing("state")),
            ("code=a", CallbackError::Missing("state")),
            ("state=x", CallbackError::Missing("code")),
            ("state=x&code", CallbackError::Missing("code")),
            ("state=x&code=", CallbackError::Missing("code")),
            ("state=x&code=a&code=b", CallbackError::Twice("code")),
            ("state=x&state=y&code=a", CallbackError::Twice("state")),
            ("state=x&code=%4", CallbackError::Unreadable("code")),
            ("state=x&code=%zz", CallbackError::Unreadable("code")),
            ("state=%ff&code=a", CallbackError::Unreadable("state")),
            (&long, CallbackError::Unreadable("code")),
        ] {
            assert_eq!(Callback::parse(query.as_bytes()), Err(error), "{query}");
        }
    }

    proptest! {
        #[test]
        fn values_are_decoded_as_they_were_encoded(state in ".{1,40}", code in ".{1,40}") {
            let mut query = b"code=".to_vec();
            crate::filter::escape(code.as_bytes(), &mut query);
            query.extend_from_slice(b"&state=");
            crate::filter::escape(state.as_bytes(), &mut query);
            prop_assume!(query.len() < 256);
            let callback = Callback::parse(&query).unwrap();
            prop_assert_eq!(callback.state, state);
            prop_assert_eq!(callback.outcome, Outcome::Code(code));
        }

        #[test]
        fn no_query_makes_it_panic(query: Vec<u8>) {
            let _ = Callback::parse(&query);
        }
    }
}
