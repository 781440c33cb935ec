//! Reads the queries of the dashboard's URLs. Pure.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use ingress_core::explain::Question;
use ingress_core::tail::{TailFilter, parse_slower};

/// A kind of change that a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    Status,
    Hosts,
    Backends,
    Routes,
    Tail,
}

/// Which changes a stream carries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Topics(Vec<Topic>);

impl Topics {
    /// The topics of a query such as `topics=status,hosts`; unknown ones are left out.
    pub(super) fn of(query: &str) -> Self {
        let mut topics = Vec::new();
        for (_, list) in pairs(query).filter(|(name, _)| name == "topics") {
            for (name, topic) in TOPICS {
                if list.split(',').any(|one| one == name) && !topics.contains(&topic) {
                    topics.push(topic);
                }
            }
        }
        Self(topics)
    }

    pub(super) fn contain(&self, topic: Topic) -> bool {
        self.0.contains(&topic)
    }
}

const TOPICS: [(&str, Topic); 5] = [
    ("status", Topic::Status),
    ("hosts", Topic::Hosts),
    ("backends", Topic::Backends),
    ("routes", Topic::Routes),
    ("tail", Topic::Tail),
];

/// The filter of requests that a query asks for, with the patterns of `sluice tail`.
///
/// # Errors
///
/// The reason why a pattern is invalid.
pub(super) fn tail_filter(query: &str) -> Result<TailFilter, String> {
    let mut filter = TailFilter::default();
    for (name, value) in pairs(query).filter(|(_, value)| !value.is_empty()) {
        let invalid = |error: &dyn std::fmt::Display| format!("{name} `{value}`: {error}");
        match &*name {
            "status" => {
                for status in value.split(',') {
                    let status = status.trim().parse();
                    filter.statuses.push(status.map_err(|e| invalid(&e))?);
                }
            }
            "host" => filter.host = Some(value.parse().map_err(|e| invalid(&e))?),
            "path" => filter.path = Some(value),
            "method" => filter.method = Some(value.to_ascii_uppercase()),
            "slower" => {
                let slower: Duration = parse_slower(&value).map_err(|e| invalid(&e))?;
                filter.slower = Some(slower);
            }
            _ => {}
        }
    }
    Ok(filter)
}

/// The request to explain that a query describes.
///
/// # Errors
///
/// The reason why the flags are invalid.
pub(crate) fn question(query: &str) -> Result<Question, String> {
    let mut question = Question::new("", "/");
    for (name, value) in pairs(query).filter(|(_, value)| !value.is_empty()) {
        match &*name {
            "host" => question.authority = value,
            "path" => question.target = value,
            "method" => question.method = value.to_ascii_uppercase(),
            "scheme" => question.is_https = Some(value == "https"),
            "sni" => question.sni = Some(value),
            "from" => {
                let client: IpAddr = value
                    .parse()
                    .map_err(|_| format!("from `{value}`: expected an IP address"))?;
                question.client = Some(client);
            }
            "field" => {
                let field = value.split_once(':').and_then(|(name, value)| {
                    let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                    Some((name, HeaderValue::from_str(value.trim()).ok()?))
                });
                let (name, value) =
                    field.ok_or_else(|| format!("field `{value}`: expected NAME: VALUE"))?;
                question.headers.append(name, value);
            }
            _ => {}
        }
    }
    if question.authority.is_empty() {
        return Err("host is missing".to_owned());
    }
    if question.sni.is_some() {
        question.is_https = Some(true);
    }
    Ok(question)
}

/// The pairs of a query in `application/x-www-form-urlencoded`.
fn pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decoded(name), decoded(value))
    })
}

/// Text without its escapes; invalid ones stay as they are.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let escaped = |two: &[u8]| u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok();
        rest = tail;
        match (first, tail.get(..2)) {
            (b'+', _) => bytes.push(b' '),
            (b'%', Some(two)) if two.iter().all(u8::is_ascii_hexdigit) => {
                bytes.extend(escaped(two));
                rest = &tail[2..];
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unknown_topics_are_left_out() {
        let topics = Topics::of("topics=status,routes,secrets&x=1");
        let expected = Topics(vec![Topic::Status, Topic::Routes]);
        assert_eq!(topics, expected);
    }

    #[test]
    fn question_is_read_with_its_fields() {
        let query = "host=a.test&path=%2Fa%3Fb%3D1&method=post&field=X-A:%201&sni=b.test&from=::1";
        let question = question(query).unwrap();
        assert_eq!(question.authority, "a.test");
        assert_eq!((&*question.target, &*question.method), ("/a?b=1", "POST"));
        assert_eq!(question.headers["x-a"], "1");
        assert_eq!(question.is_https, Some(true));
    }

    #[test]
    fn mistakes_name_their_field() {
        for (query, field) in [
            ("path=/", "host"),
            ("host=a&from=x", "from"),
            ("host=a&field=x", "field"),
        ] {
            let error = question(query).unwrap_err();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(tail_filter("status=99x").unwrap_err().starts_with("status"));
        tail_filter("status=5xx,404&host=*.test&slower=500ms&method=get&path=/a").unwrap();
    }

    proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "\\PC{0,64}") {
            let _ = (Topics::of(&query), tail_filter(&query), question(&query));
        }

        #[test]
        fn escaped_text_is_read_as_it_was(text in "\\PC{0,32}") {
            let mut escaped = String::new();
            for byte in text.bytes() {
                let _ = write!(escaped, "%{byte:02X}");
            }
            prop_assert_eq!(decoded(&escaped), text);
        }
    }
}
