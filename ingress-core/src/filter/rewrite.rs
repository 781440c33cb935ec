//! Changes the path that an endpoint gets.
//!
//! Source: ingress-nginx, annotation `rewrite-target`: nginx's `rewrite "(?i)PATH" TARGET break` on
//! the normalised path, whose result nginx percent-encodes anew.

use std::fmt::Write as _;

use super::{Answer, Context, Decision, RequestHead};
use crate::ir::{Rewrite, TemplatePart};

pub(super) fn on_request(
    rewrite: &Rewrite,
    head: &mut RequestHead<'_>,
    context: &Context<'_>,
) -> Decision {
    let Some(captures) = rewrite.pattern.captures(context.path) else {
        return Decision::Continue;
    };
    let mut path = Vec::new();
    for part in &rewrite.template {
        match part {
            TemplatePart::Text(text) => path.extend_from_slice(text.as_bytes()),
            TemplatePart::Group(number) => {
                if let Some(group) = captures.get(*number) {
                    path.extend_from_slice(group.as_bytes());
                }
            }
        }
    }
    if path.len() > PATH_BYTES_MAX {
        return Decision::Respond(Answer::status(http::StatusCode::URI_TOO_LONG));
    }
    if path.first() != Some(&b'/') {
        path.insert(0, b'/');
    }
    head.path = Some(encode(&path));
    Decision::Continue
}

/// Percent-encodes what cannot stand in a path (RFC 3986 §3.3); slashes stay.
fn encode(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(byte) {
            text.push(char::from(*byte));
        } else {
            // Writing to a text does not fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Bytes of a rewritten path: a template may name a group several times.
const PATH_BYTES_MAX: usize = 32 << 10;

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;
    use crate::annotation::rewrite_template;
    use crate::ir::PathRegex;

    fn rewritten(pattern: &str, template: &str, path: &str) -> Option<String> {
        let rewrite = Rewrite {
            pattern: PathRegex::new(&pattern.into()).unwrap().into(),
            template: rewrite_template(template).unwrap(),
        };
        let mut headers = HeaderMap::new();
        let mut head = RequestHead {
            headers: &mut headers,
            path: None,
            host: None,
        };
        let context = Context {
            is_https: false,
            method: "GET",
            headers: &HeaderMap::new(),
            authority: "a.test",
            path: path.as_bytes(),
            target: path.as_bytes(),
            client: [127, 0, 0, 1].into(),
        };
        assert_eq!(
            on_request(&rewrite, &mut head, &context),
            Decision::Continue
        );
        head.path
    }

    #[test]
    fn groups_of_the_pattern_stand_in_the_new_path() {
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(rewritten("/api(/|$)(.*)", "/$2", "/api/x/y"), text("/x/y"));
        assert_eq!(rewritten("/api(/|$)(.*)", "/$2", "/api"), text("/"));
        assert_eq!(rewritten("/API", "/new", "/api/old"), text("/new"));
        assert_eq!(rewritten("/a/(.*)", "/$1", "/a/b c%"), text("/b%20c%25"));
        assert_eq!(rewritten("/a/(.*)", "/$1", "/a/ü?"), text("/%C3%BC%3F"));
        assert_eq!(rewritten("/a(/b)?", "$1", "/a"), text("/"));
        assert_eq!(rewritten("/a", "/$7", "/a"), text("/"));
        assert_eq!(rewritten("/a", "/b", "/c"), None);
    }
}
