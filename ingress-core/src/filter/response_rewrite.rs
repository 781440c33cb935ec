//! Replaces what an endpoint says about its own host and paths in cookies and in Location.
//!
//! Source: nginx, directives `proxy_cookie_domain`, `proxy_cookie_path` and `proxy_redirect`.

use http::header::{LOCATION, REFRESH, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use super::{Context, template};
use crate::ir::{Replacement, ResponseRewrite};

pub(super) fn on_response(
    rewrite: &ResponseRewrite,
    context: &Context<'_>,
    fields: &mut HeaderMap,
) {
    if let Some(location) = &rewrite.location {
        rewrite_location(location, context, fields);
    }
    if rewrite.cookie_domain.is_none() && rewrite.cookie_path.is_none() {
        return;
    }
    for cookie in fields.get_all_mut(SET_COOKIE) {
        if let Some(changed) = rewrite_cookie(rewrite, context, cookie.as_bytes())
            && let Ok(changed) = HeaderValue::from_bytes(&changed)
        {
            *cookie = changed;
        }
    }
}

trait GetAllMut {
    fn get_all_mut(&mut self, name: http::HeaderName) -> impl Iterator<Item = &mut HeaderValue>;
}

impl GetAllMut for HeaderMap {
    fn get_all_mut(&mut self, wanted: http::HeaderName) -> impl Iterator<Item = &mut HeaderValue> {
        let all = self.iter_mut();
        all.filter_map(move |(name, value)| (*name == wanted).then_some(value))
    }
}

fn rewrite_location(location: &Replacement, context: &Context<'_>, fields: &mut HeaderMap) {
    let from = template::render(&location.from, context);
    let replaced = |value: &HeaderValue, before: &[u8]| {
        let url = value.as_bytes().strip_prefix(before)?;
        let rest = url.strip_prefix(&*from)?;
        let to = template::render(&location.to, context);
        HeaderValue::from_bytes(&[before, &to, rest].concat()).ok()
    };
    if let Some(value) = fields.get(LOCATION)
        && let Some(value) = replaced(value, b"")
    {
        fields.insert(LOCATION, value);
    }
    if let Some(value) = fields.get(REFRESH)
        && let Some(at) = find(value.as_bytes(), b"url=")
        && let Some(value) = replaced(value, &value.as_bytes()[..at + 4])
    {
        fields.insert(REFRESH, value);
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// A cookie with other attributes; `None` where they stay.
fn rewrite_cookie(
    rewrite: &ResponseRewrite,
    context: &Context<'_>,
    cookie: &[u8],
) -> Option<Vec<u8>> {
    let mut has_changed = false;
    let mut parts = Vec::new();
    for (index, part) in cookie.split(|byte| *byte == b';').enumerate() {
        let changed = (index > 0)
            .then(|| rewrite_attribute(rewrite, context, part))
            .flatten();
        has_changed |= changed.is_some();
        parts.push(changed.unwrap_or_else(|| part.to_vec()));
    }
    has_changed.then(|| parts.join(&b';'))
}

fn rewrite_attribute(
    rewrite: &ResponseRewrite,
    context: &Context<'_>,
    attribute: &[u8],
) -> Option<Vec<u8>> {
    let at = attribute.iter().position(|byte| *byte == b'=')?;
    let (name, value) = (
        attribute[..at].trim_ascii(),
        attribute[at + 1..].trim_ascii(),
    );
    let value = if name.eq_ignore_ascii_case(b"domain") {
        let replacement = rewrite.cookie_domain.as_ref()?;
        let from = template::render(&replacement.from, context);
        let without_dot = |text: &[u8]| text.strip_prefix(b".").unwrap_or(text).to_vec();
        let is_same = without_dot(value).eq_ignore_ascii_case(&without_dot(&from));
        is_same.then(|| template::render(&replacement.to, context))?
    } else if name.eq_ignore_ascii_case(b"path") {
        let replacement = rewrite.cookie_path.as_ref()?;
        let from = template::render(&replacement.from, context);
        let rest = value.strip_prefix(&*from)?;
        [&template::render(&replacement.to, context), rest].concat()
    } else {
        return None;
    };
    Some([&attribute[..=at], &value].concat())
}

#[cfg(test)]
mod tests {
    use super::super::tests::context;
    use super::*;
    use crate::ir::Template;

    fn replacement(from: &str, to: &str) -> Replacement {
        Replacement {
            from: Template::text(from),
            to: Template::text(to),
        }
    }

    #[test]
    fn cookies_and_locations_get_the_names_of_the_outside() {
        let request = HeaderMap::new();
        let context = context(&request);
        let rewrite = ResponseRewrite {
            cookie_domain: Some(replacement("internal.test", "shop.test")),
            cookie_path: Some(replacement("/app/", "/")),
            location: Some(replacement("http://internal.test:8080/", "/shop/")),
        };
        let value = HeaderValue::from_static;
        let mut fields = HeaderMap::new();
        fields.append(
            SET_COOKIE,
            value("a=/app/; Path=/app/x; Domain=.Internal.test; Secure"),
        );
        fields.append(SET_COOKIE, value("b=1; path=/other; domain=other.test"));
        fields.insert(LOCATION, value("http://internal.test:8080/a?b"));
        fields.insert(REFRESH, value("5; url=http://internal.test:8080/c"));
        on_response(&rewrite, &context, &mut fields);
        let cookies: Vec<_> = fields.get_all(SET_COOKIE).iter().collect();
        assert_eq!(
            cookies,
            [
                "a=/app/; Path=/x; Domain=shop.test; Secure",
                "b=1; path=/other; domain=other.test",
            ]
        );
        assert_eq!(fields[LOCATION], "/shop/a?b");
        assert_eq!(fields[REFRESH], "5; url=/shop/c");
    }
}
