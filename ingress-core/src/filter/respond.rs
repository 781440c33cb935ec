//! Answers requests that satisfy conditions.
//!
//! Source: nginx, directives `return`, `if` and `location`.

use http::StatusCode;

use super::{Answer, Context, Decision, template};
use crate::ir::{Condition, PathTest, Respond, TextPattern, ValueTest};

pub(super) fn on_request(respond: &Respond, context: &Context<'_>) -> Decision {
    let mut groups = Vec::new();
    let mut conditions = respond.conditions.iter();
    if !conditions.all(|condition| holds(condition, context, &mut groups)) {
        return Decision::Continue;
    }
    if respond.status == CLOSE {
        return Decision::Close;
    }
    Decision::Respond(match &respond.location {
        Some(location) => {
            let location = template::render_with_groups(location, context, &groups);
            Answer::redirect(respond.status, &location)
        }
        None => Answer::status(
            StatusCode::from_u16(respond.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE),
        ),
    })
}

/// Whether a condition holds. An expression that is found leaves its groups in `groups`.
fn holds(condition: &Condition, context: &Context<'_>, groups: &mut Vec<Vec<u8>>) -> bool {
    match condition {
        Condition::Variable {
            variable,
            test,
            is_negated,
        } => {
            let mut value = Vec::new();
            template::append(variable, context, &mut value);
            let passes = match test {
                ValueTest::IsSet => !matches!(&*value, b"" | b"0"),
                ValueTest::Equals(text) => *value == *text.as_bytes(),
                ValueTest::Matches(pattern) => is_found(pattern, &value, groups),
            };
            passes != *is_negated
        }
        Condition::Path(test) => match test {
            PathTest::Equals(path) => context.path == path.as_bytes(),
            PathTest::BeginsWith(start) => context.path.starts_with(start.as_bytes()),
            PathTest::Matches(pattern) => is_found(pattern, context.path, groups),
        },
    }
}

fn is_found(pattern: &TextPattern, text: &[u8], groups: &mut Vec<Vec<u8>>) -> bool {
    let Some(found) = pattern.captures(text) else {
        return false;
    };
    let found = found.iter().skip(1);
    *groups = found
        .map(|group| group.map_or_else(Vec::new, |group| group.as_bytes().to_vec()))
        .collect();
    true
}

/// The status by which nginx is told to close the connection without an answer.
const CLOSE: u16 = 444;

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::super::tests::context;
    use super::*;
    use crate::ir::{Part, Template, Variable};

    fn status(conditions: impl Into<Box<[Condition]>>, context: &Context<'_>) -> Option<Answer> {
        let respond = Respond {
            conditions: conditions.into(),
            status: 301,
            location: Some(Template {
                parts: [
                    Part::Text("/to/".into()),
                    Part::Variable(Variable::Group(1)),
                ]
                .into(),
            }),
        };
        match on_request(&respond, context) {
            Decision::Respond(answer) => Some(answer),
            Decision::Continue | Decision::Close | Decision::Check { .. } => None,
        }
    }

    fn agent(test: ValueTest, is_negated: bool) -> Condition {
        Condition::Variable {
            variable: Variable::Field("user-agent".into()),
            test,
            is_negated,
        }
    }

    #[test]
    fn all_conditions_have_to_hold() {
        let mut headers = HeaderMap::new();
        headers.insert("user-agent", HeaderValue::from_static("Bot 7"));
        let mut context = context(&headers);
        context.path = b"/app/x";
        let pattern = |text, ignores_case| TextPattern::new(text, ignores_case).unwrap();
        let is_bot = || agent(ValueTest::Matches(pattern("^bot (.)", true)), false);
        let begins = |text: &str| Condition::Path(PathTest::BeginsWith(text.into()));
        let answer = status([is_bot(), begins("/ap")], &context).unwrap();
        assert_eq!(answer.location.unwrap(), "/to/7");
        assert_eq!(status([is_bot(), begins("/b")], &context), None);
        let cases = [
            (
                agent(ValueTest::Matches(pattern("bot", false)), false),
                false,
            ),
            (agent(ValueTest::Matches(pattern("bot", false)), true), true),
            (agent(ValueTest::Equals("Bot 7".into()), false), true),
            (agent(ValueTest::Equals("bot 7".into()), false), false),
            (agent(ValueTest::IsSet, false), true),
            (agent(ValueTest::IsSet, true), false),
            (Condition::Path(PathTest::Equals("/app".into())), false),
            (Condition::Path(PathTest::Equals("/app/x".into())), true),
            (
                Condition::Path(PathTest::Matches(pattern("/X$", true))),
                true,
            ),
        ];
        for (condition, holds) in cases {
            let answered = status([condition.clone()], &context).is_some();
            assert_eq!(answered, holds, "{condition:?}");
        }
    }

    #[test]
    fn status_444_closes_the_connection() {
        let respond = Respond {
            conditions: [].into(),
            status: 444,
            location: None,
        };
        let headers = HeaderMap::new();
        assert_eq!(on_request(&respond, &context(&headers)), Decision::Close);
    }

    #[test]
    fn variable_that_is_missing_is_not_set() {
        let headers = HeaderMap::new();
        let context = context(&headers);
        assert_eq!(status([agent(ValueTest::IsSet, false)], &context), None);
        assert!(status([agent(ValueTest::Equals("".into()), false)], &context).is_some());
    }
}
