//! Blocks of snippets: answers to requests that satisfy conditions.
//!
//! Source: nginx, directives `if` and `location`. A `location` of a snippet applies whatever the length
//! of the rule's path; in nginx a longer path of another location wins.

use std::sync::Arc;

use super::super::template::variable;
use super::syntax::Directive;
use super::{answer, refused};
use crate::ir::{Condition, Filter, PathTest, Respond, TextPattern, ValueTest};

/// The answers of a block, each with all conditions that it is in.
///
/// # Errors
///
/// In words, for a condition or a directive that cannot be honoured.
pub(super) fn read(directive: &Directive) -> Result<Vec<Filter>, String> {
    let mut answers = Vec::new();
    collect(directive, &[], 0, &mut answers)?;
    Ok(answers)
}

/// Adds the answers of one block. `outer`: the conditions of the blocks around it. `groups`: how many groups
/// the last regular expression in `outer` has.
fn collect(
    directive: &Directive,
    outer: &[Condition],
    groups: usize,
    answers: &mut Vec<Filter>,
) -> Result<(), String> {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    let condition = match &*directive.name {
        "if" => condition(&arguments),
        "location" => location(&arguments).map(|path| path.map(Condition::Path)),
        _ => Ok(None),
    }?;
    let condition = condition.ok_or_else(|| refused(directive))?;
    let groups = groups_of(&condition).unwrap_or(groups);
    let conditions = [outer, &[condition]].concat();
    for inner in directive.block.iter().flatten() {
        if inner.block.is_some() {
            collect(inner, &conditions, groups, answers)?;
            continue;
        }
        let answer = match (&*inner.name, &inner.arguments[..]) {
            ("deny", [all]) if all == "all" => Respond {
                conditions: [].into(),
                status: 403,
                location: None,
            },
            ("return", _) => answer(inner, groups)?,
            _ => return Err(refused(inner)),
        };
        answers.push(Filter::Respond(Arc::new(Respond {
            conditions: conditions.clone().into(),
            ..answer
        })));
    }
    Ok(())
}

/// How many groups the expression of a condition has, if a request that satisfies it matches one.
fn groups_of(condition: &Condition) -> Option<usize> {
    match condition {
        Condition::Variable {
            test: ValueTest::Matches(pattern),
            is_negated: false,
            ..
        }
        | Condition::Path(PathTest::Matches(pattern)) => Some(pattern.groups()),
        Condition::Variable { .. } | Condition::Path(_) => None,
    }
}

/// The condition in the parentheses of `if`; `None` for one that is not of variables.
fn condition(arguments: &[&str]) -> Result<Option<Condition>, String> {
    let Some(words) = in_parentheses(arguments) else {
        return Ok(None);
    };
    let (name, operator, value) = match words[..] {
        [name] => (name, None, ""),
        [name, operator, value] => (name, Some(operator), value),
        _ => return Ok(None),
    };
    let name = name.strip_prefix('$').map(|name| {
        let braced = name.strip_prefix('{');
        braced.map_or(name, |name| name.trim_end_matches('}'))
    });
    let Some(variable) = name.and_then(variable) else {
        return Ok(None);
    };
    let (test, is_negated) = match operator {
        None => (ValueTest::IsSet, false),
        Some("=") => (ValueTest::Equals(value.into()), false),
        Some("!=") => (ValueTest::Equals(value.into()), true),
        Some(operator) => {
            let Some(ignores_case) = operator
                .strip_prefix('!')
                .unwrap_or(operator)
                .strip_prefix('~')
            else {
                return Ok(None);
            };
            let pattern = TextPattern::new(value, ignores_case == "*")?;
            if !matches!(ignores_case, "" | "*") {
                return Ok(None);
            }
            (ValueTest::Matches(pattern), operator.starts_with('!'))
        }
    };
    // nginx would fill in the variable.
    if matches!(&test, ValueTest::Equals(value) if value.contains('$')) {
        return Ok(None);
    }
    Ok(Some(Condition::Variable {
        variable,
        test,
        is_negated,
    }))
}

/// The words between parentheses, which may be words of their own.
fn in_parentheses<'a>(arguments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut words = arguments.to_vec();
    let first = words.first_mut()?;
    *first = first.strip_prefix('(')?;
    if first.is_empty() {
        words.remove(0);
    }
    let last = words.last_mut()?;
    *last = last.strip_suffix(')')?;
    if last.is_empty() {
        words.pop();
    }
    Some(words)
}

/// The path of `location`; `None` for a named one.
fn location(arguments: &[&str]) -> Result<Option<PathTest>, String> {
    Ok(match arguments {
        ["=", path] => Some(PathTest::Equals((*path).into())),
        ["~", text] => Some(PathTest::Matches(TextPattern::new(text, false)?)),
        ["~*", text] => Some(PathTest::Matches(TextPattern::new(text, true)?)),
        ["^~", path] | [path] if path.starts_with('/') => {
            Some(PathTest::BeginsWith((*path).into()))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::syntax::parse;
    use super::*;
    use crate::ir::Variable;

    fn answers(snippet: &str) -> Result<Vec<Respond>, String> {
        let mut answers = Vec::new();
        for directive in parse(snippet)? {
            for filter in read(&directive)? {
                let Filter::Respond(respond) = filter else {
                    panic!("{filter:?}")
                };
                answers.push((*respond).clone());
            }
        }
        Ok(answers)
    }

    fn conditions(snippet: &str) -> Vec<Condition> {
        let answers = answers(snippet).unwrap();
        answers[0].conditions.to_vec()
    }

    #[test]
    fn conditions_of_if_are_read_as_nginx_reads_them() {
        let pattern =
            |text, ignores_case| ValueTest::Matches(TextPattern::new(text, ignores_case).unwrap());
        for (text, test, is_negated) in [
            ("$request_method", ValueTest::IsSet, false),
            (
                "$request_method = POST",
                ValueTest::Equals("POST".into()),
                false,
            ),
            (
                " $request_method != 'POST' ",
                ValueTest::Equals("POST".into()),
                true,
            ),
            ("$request_method ~ ^P", pattern("^P", false), false),
            (
                "$request_method ~* \"(put|post)\"",
                pattern("(put|post)", true),
                false,
            ),
            ("${request_method} !~ ^P", pattern("^P", false), true),
            ("$request_method !~* ^p", pattern("^p", true), true),
        ] {
            let read = conditions(&format!("if ({text}) {{ return 405; }}"));
            let expected = Condition::Variable {
                variable: Variable::Method,
                test,
                is_negated,
            };
            assert_eq!(read, [expected], "{text}");
        }
    }

    #[test]
    fn paths_of_location_are_read_as_nginx_reads_them() {
        let pattern =
            |text, ignores_case| PathTest::Matches(TextPattern::new(text, ignores_case).unwrap());
        for (text, test) in [
            ("/admin", PathTest::BeginsWith("/admin".into())),
            ("^~ /admin", PathTest::BeginsWith("/admin".into())),
            ("= /metrics", PathTest::Equals("/metrics".into())),
            (r"~ \.php$", pattern(r"\.php$", false)),
            (r"~* /\.(git|env)", pattern(r"/\.(git|env)", true)),
        ] {
            let read = conditions(&format!("location {text} {{ deny all; }}"));
            assert_eq!(read, [Condition::Path(test)], "{text}");
        }
    }

    #[test]
    fn answers_have_all_conditions_around_them_and_may_name_groups() {
        let found = answers(
            "location /a { deny all; if ($host ~ ^www\\.(.+)$) { return 301 https://$1/; } }",
        );
        let [denial, redirect] = &found.unwrap()[..] else {
            panic!()
        };
        assert_eq!((denial.status, denial.conditions.len()), (403, 1));
        assert_eq!((redirect.status, redirect.conditions.len()), (301, 2));
        assert!(redirect.location.as_ref().unwrap().has(&Variable::Group(1)));
    }

    #[test]
    fn unknown_conditions_and_unknown_directives_are_refused() {
        for snippet in [
            "if $host { return 403; }",
            "if ($host { return 403; }",
            "if ($nothing) { return 403; }",
            "if (-f $host) { return 403; }",
            "if ($host == a) { return 403; }",
            "if ($host ~~ a) { return 403; }",
            "if ($host = $http_x) { return 403; }",
            "if ($host ~ '(') { return 403; }",
            "if ($host !~ (.)) { return 301 /$1; }",
            "if ($host = a) { return 301 /$1; }",
            "if () { return 403; }",
            "if ($host = a) { set $b c; }",
            "location @named { return 403; }",
            "location admin { deny all; }",
            "location / { deny 10.0.0.0/8; }",
            "location { deny all; }",
            "server { return 403; }",
        ] {
            assert!(answers(snippet).is_err(), "{snippet}");
        }
    }
}
