//! Fills in the variables of a template.

use http::HeaderMap;
use http::header::COOKIE;

use super::{Context, host_of};
use crate::ir::{Part, Template, Variable};

/// The text of a template for a request. A variable that the request does not have is empty, as in
/// nginx.
pub fn render(template: &Template, context: &Context<'_>) -> Vec<u8> {
    render_with_groups(template, context, &[])
}

/// The same with what the groups of a regular expression have matched, from `$1` on.
pub(super) fn render_with_groups(
    template: &Template,
    context: &Context<'_>,
    groups: &[Vec<u8>],
) -> Vec<u8> {
    let mut text = Vec::new();
    for part in &template.parts {
        match part {
            Part::Text(literal) => text.extend_from_slice(literal.as_bytes()),
            Part::Variable(Variable::Group(number)) => {
                let group = groups.get(usize::from(*number).wrapping_sub(1));
                text.extend_from_slice(group.map_or(&[], Vec::as_slice));
            }
            Part::Variable(variable) => append(variable, context, &mut text),
        }
    }
    text
}

/// Appends the value of a variable; nothing for a group.
pub(super) fn append(variable: &Variable, context: &Context<'_>, text: &mut Vec<u8>) {
    match variable {
        Variable::Host => {
            let host = host_of(context.authority).to_ascii_lowercase();
            text.extend_from_slice(host.as_bytes());
        }
        Variable::Authority => text.extend_from_slice(context.authority.as_bytes()),
        Variable::Target => text.extend_from_slice(context.target),
        Variable::EscapedTarget => escape(context.target, text),
        Variable::Path => text.extend_from_slice(context.path),
        Variable::Query => text.extend_from_slice(query(context)),
        Variable::Scheme => text.extend_from_slice(scheme(context).as_bytes()),
        Variable::Method => text.extend_from_slice(context.method.as_bytes()),
        Variable::Client => {
            text.extend_from_slice(context.client.to_canonical().to_string().as_bytes());
        }
        Variable::Field(name) => {
            if let Some(value) = context.headers.get(&**name) {
                text.extend_from_slice(value.as_bytes());
            }
        }
        Variable::Cookie(name) => {
            let value = cookie_value(context.headers, name);
            text.extend_from_slice(value.unwrap_or_default());
        }
        Variable::Parameter(name) => text.extend_from_slice(parameter(context, name)),
        Variable::Group(_) => {}
    }
}

/// The scheme that the client speaks.
pub(super) fn scheme(context: &Context<'_>) -> &'static str {
    if context.is_https { "https" } else { "http" }
}

fn query<'a>(context: &Context<'a>) -> &'a [u8] {
    let target = context.target;
    let at = target.iter().position(|byte| *byte == b'?');
    at.map_or(b"", |at| &target[at + 1..])
}

/// The value of the first cookie of a name.
pub fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let lines = headers.get_all(COOKIE).into_iter();
    let mut cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies.find_map(|cookie| {
        let rest = cookie.trim_ascii().strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    })
}

fn parameter<'a>(context: &Context<'a>, name: &str) -> &'a [u8] {
    let mut all = query(context).split(|byte| *byte == b'&');
    let found = all.find_map(|one| {
        let rest = one.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    found.unwrap_or_default()
}

/// Percent-encodes everything but unreserved characters, as `ngx.escape_uri` does.
pub fn escape(text: &[u8], escaped: &mut Vec<u8>) {
    for byte in text {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            escaped.push(*byte);
        } else {
            const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
            let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            escaped.extend_from_slice(&[b'%', digits[0], digits[1]]);
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::super::tests::context;
    use super::*;

    #[test]
    fn variables_are_those_of_the_request() {
        let mut headers = HeaderMap::new();
        headers.insert("x-user", HeaderValue::from_static("ann"));
        headers.insert(COOKIE, HeaderValue::from_static("a=1; sid=x=y"));
        let mut context = context(&headers);
        context.authority = "A.test:8080";
        context.target = b"/a%20b?q=1&r=2";
        context.path = b"/a b";
        let rendered = |variable: Variable| {
            let template = Template {
                parts: [Part::Variable(variable)].into(),
            };
            String::from_utf8(render(&template, &context)).unwrap()
        };
        assert_eq!(rendered(Variable::Host), "a.test");
        assert_eq!(rendered(Variable::Authority), "A.test:8080");
        assert_eq!(rendered(Variable::Target), "/a%20b?q=1&r=2");
        assert_eq!(
            rendered(Variable::EscapedTarget),
            "%2Fa%2520b%3Fq%3D1%26r%3D2"
        );
        assert_eq!(rendered(Variable::Path), "/a b");
        assert_eq!(rendered(Variable::Query), "q=1&r=2");
        assert_eq!(rendered(Variable::Scheme), "http");
        assert_eq!(rendered(Variable::Method), "GET");
        assert_eq!(rendered(Variable::Client), "127.0.0.1");
        assert_eq!(rendered(Variable::Field("x-user".into())), "ann");
        assert_eq!(rendered(Variable::Field("x-none".into())), "");
        assert_eq!(rendered(Variable::Cookie("sid".into())), "x=y");
        assert_eq!(rendered(Variable::Parameter("r".into())), "2");
    }
}
