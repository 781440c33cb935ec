//! Reads text with nginx's variables in it.

use crate::ir::{Part, Template, Variable};

/// Reads a template: text with `$name` or `${name}`.
///
/// # Errors
///
/// In words, for a variable that is not known, a `$` without a name, and a control character.
pub(super) fn template(text: &str) -> Result<Template, String> {
    template_with_groups(text, 0)
}

/// Reads a template that may name `$1` up to `$groups`, the groups of a regular expression.
pub(super) fn template_with_groups(text: &str, groups: usize) -> Result<Template, String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(format!("`{text}` has a control character; ignored"));
    }
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        literal.push_str(before);
        // nginx takes `${1}` for a variable named `1`.
        let is_braced = after.starts_with('{');
        let (name, after) = variable_name(after);
        let group = group(name, groups).filter(|_| !is_braced);
        let Some(variable) = group.or_else(|| variable(name)) else {
            return Err(format!(
                "`{text}` has the unknown variable `${name}`; ignored"
            ));
        };
        if !literal.is_empty() {
            parts.push(Part::Text(std::mem::take(&mut literal).into()));
        }
        parts.push(Part::Variable(variable));
        rest = after;
    }
    literal.push_str(rest);
    if !literal.is_empty() {
        parts.push(Part::Text(literal.into()));
    }
    Ok(Template {
        parts: parts.into(),
    })
}

/// The name after a dollar sign, and what follows it.
fn variable_name(text: &str) -> (&str, &str) {
    if let Some(braced) = text.strip_prefix('{')
        && let Some((name, rest)) = braced.split_once('}')
    {
        return (name, rest);
    }
    // A group has one digit, whatever follows.
    if text.starts_with(|c: char| c.is_ascii_digit()) {
        return text.split_at(1);
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let end = text.find(|c| !is_part(c)).unwrap_or(text.len());
    text.split_at(end)
}

fn group(name: &str, groups: usize) -> Option<Variable> {
    let number: u8 = name.parse().ok()?;
    let is_there = (1..=groups).contains(&usize::from(number)) && number < 10;
    is_there.then_some(Variable::Group(number))
}

pub(super) fn variable(name: &str) -> Option<Variable> {
    Some(match name {
        "host" | "server_name" => Variable::Host,
        "http_host" | "best_http_host" => Variable::Authority,
        "request_uri" => Variable::Target,
        "escaped_request_uri" => Variable::EscapedTarget,
        "uri" | "document_uri" => Variable::Path,
        "args" | "query_string" => Variable::Query,
        "scheme" | "pass_access_scheme" => Variable::Scheme,
        "request_method" => Variable::Method,
        "remote_addr" | "binary_remote_addr" | "the_real_ip" => Variable::Client,
        _ => return named(name),
    })
}

fn named(name: &str) -> Option<Variable> {
    let after = |prefix| {
        let rest: Option<&str> = name.strip_prefix(prefix);
        rest.filter(|rest| !rest.is_empty())
    };
    if let Some(field) = after("http_") {
        let field = field.replace('_', "-").to_ascii_lowercase();
        return Some(Variable::Field(field.into()));
    }
    if let Some(cookie) = after("cookie_") {
        return Some(Variable::Cookie(cookie.into()));
    }
    after("arg_").map(|parameter| Variable::Parameter(parameter.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_text_and_variables() {
        let read = |text: &str| template(text).map(|template| template.parts.to_vec());
        let text = |text: &str| Part::Text(text.into());
        assert_eq!(read(""), Ok(vec![]));
        assert_eq!(read("/a"), Ok(vec![text("/a")]));
        assert_eq!(
            read("https://$host${request_uri}?x"),
            Ok(vec![
                text("https://"),
                Part::Variable(Variable::Host),
                Part::Variable(Variable::Target),
                text("?x"),
            ])
        );
        let field = Part::Variable(Variable::Field("x-user-id".into()));
        assert_eq!(read("$http_X_User_Id"), Ok(vec![field]));
        let group = |number| Part::Variable(Variable::Group(number));
        let with_groups = template_with_groups("/$1x$2", 2).map(|it| it.parts.to_vec());
        let expected = vec![text("/"), group(1), text("x"), group(2)];
        assert_eq!(with_groups, Ok(expected));
        template_with_groups("$3", 2).unwrap_err();
        template_with_groups("$0", 2).unwrap_err();
        template_with_groups("${1}", 2).unwrap_err();
        for wrong in ["$", "$1", "a$ b", "$nothing", "${host", "$http_", "a\nb"] {
            read(wrong).unwrap_err();
        }
    }
}
