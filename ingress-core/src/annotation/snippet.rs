//! Snippets of nginx's configuration: never executed, read into types.
//!
//! Source: ingress-nginx, annotations `configuration-snippet` and `server-snippet`. Where the class
//! allows them (`allow-snippet-annotations`), directives that only set or remove fields, or answer,
//! are honoured, and answers in blocks of `if` and `location`; any other directive closes the routes.
//! Nothing of a snippet is ever rendered into text that something parses again.

mod block;
mod substitution;
mod syntax;

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::Settings;
use super::template::template_with_groups;
use crate::ir::{Filter, HeaderFields, Respond, Substitution, TemplateFields};
use substitution::SubstitutionSettings;
use syntax::{Directive, parse};

/// The settings that snippets make.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SnippetSettings {
    /// Whether the class allows snippets.
    is_allowed: bool,
    filters: Vec<Filter>,
    substitution: SubstitutionSettings,
}

impl SnippetSettings {
    /// The filters of all snippets, in their order.
    pub(super) fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// What all snippets replace in response bodies.
    pub(super) fn substitution(&self) -> Option<Arc<Substitution>> {
        self.substitution.substitution()
    }
}

/// Source: ingress-nginx, ConfigMap key `allow-snippet-annotations`.
pub(super) fn allow(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.snippets.is_allowed = super::boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotations `configuration-snippet` and `server-snippet`.
pub(super) fn read(value: &str, settings: &mut Settings) -> Result<(), String> {
    if value.trim().is_empty() {
        return Ok(());
    }
    let directives = parse(value)?;
    if !settings.snippets.is_allowed {
        let advice: Vec<String> = directives.iter().map(advice).collect();
        return Err(format!(
            "snippets are not allowed (`allow-snippet-annotations`): {}",
            advice.join(", ")
        ));
    }
    for directive in &directives {
        if directive.block.is_some() {
            let answers = block::read(directive)?;
            settings.snippets.filters.extend(answers);
        } else if !settings.snippets.substitution.read(directive)? {
            settings.snippets.filters.push(filter(directive)?);
        }
    }
    Ok(())
}

/// The filter for a directive without a block.
fn filter(directive: &Directive) -> Result<Filter, String> {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    match (&*directive.name, &arguments[..]) {
        ("add_header", [name, value] | [name, value, "always"]) => {
            Ok(Filter::ResponseHeaders(field(name, value)?))
        }
        ("more_set_headers", all) if !all.is_empty() => {
            let fields = all.iter().map(|text| {
                let (name, value) = text.split_once(':').unwrap_or((text, ""));
                pair(name.trim(), value.trim())
            });
            let fields: Result<HeaderFields, String> = fields.collect();
            Ok(Filter::ResponseHeaders(fields?))
        }
        ("more_clear_headers" | "proxy_hide_header", all) if !all.is_empty() => {
            let names = all.iter().map(|name| {
                let name = HeaderName::from_bytes(name.as_bytes());
                let name = name.map_err(|_| format!("{} names no field", advice(directive)))?;
                Ok(name.as_str().into())
            });
            let names: Result<Arc<[Box<str>]>, String> = names.collect();
            Ok(Filter::HideHeaders(names?))
        }
        ("proxy_set_header", [name, value]) => Ok(Filter::RequestHeaders(templated(name, value)?)),
        ("return", _) => Ok(Filter::Respond(Arc::new(answer(directive, 0)?))),
        _ => Err(refused(directive)),
    }
}

fn refused(directive: &Directive) -> String {
    format!("{} cannot be honoured", advice(directive))
}

/// The answer of `return`. Its URL may name `$1` up to `$groups`, the groups of a regular expression.
fn answer(directive: &Directive, groups: usize) -> Result<Respond, String> {
    let arguments: Vec<&str> = directive.arguments.iter().map(String::as_str).collect();
    let answer = match arguments[..] {
        [code] => respond(code, None, groups),
        [code, url] => respond(code, Some(url), groups),
        _ => None,
    };
    answer.ok_or_else(|| refused(directive))
}

fn respond(code: &str, url: Option<&str>, groups: usize) -> Option<Respond> {
    let status: u16 = code.parse().ok()?;
    let is_redirect = matches!(status, 301..=303 | 307 | 308);
    let is_url = |url: &str| {
        let is_absolute = ["/", "http://", "https://", "$scheme://"]
            .iter()
            .any(|start| url.starts_with(start));
        is_absolute && url.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let location = url.filter(|url| is_url(url));
    let location = location.map(|url| template_with_groups(url, groups));
    let location = location.transpose().ok()?;
    let is_sound = if is_redirect {
        location.is_some()
    } else {
        url.is_none()
    };
    let is_status = (200..600).contains(&status);
    (is_sound && is_status).then(|| Respond {
        conditions: [].into(),
        status,
        location,
    })
}

fn field(name: &str, value: &str) -> Result<HeaderFields, String> {
    Ok([pair(name, value)?].into())
}

fn templated(name: &str, value: &str) -> Result<TemplateFields, String> {
    let name = HeaderName::from_bytes(name.as_bytes());
    let name = name.map_err(|_| format!("`{value}` is set on something that is not a field"))?;
    HeaderValue::from_str(value).map_err(|_| format!("`{name}` has an invalid value"))?;
    let value = super::template::template(value)
        .map_err(|message| message.trim_end_matches("; ignored").to_owned())?;
    Ok([(name.as_str().into(), value)].into())
}

fn pair(name: &str, value: &str) -> Result<(Box<str>, Box<str>), String> {
    let name = HeaderName::from_bytes(name.as_bytes());
    let name = name.map_err(|_| format!("`{value}` is set on something that is not a field"))?;
    HeaderValue::from_str(value).map_err(|_| format!("`{name}` has an invalid value"))?;
    if value.contains('$') {
        return Err(format!("`{name}: {value}`: variables cannot be honoured"));
    }
    Ok((name.as_str().into(), value.into()))
}

/// A directive, and the key that does the same.
fn advice(directive: &Directive) -> String {
    let name = &directive.name;
    let known = ADVICE.iter().find(|(directive, _)| directive == name);
    match known {
        Some((_, key)) => format!("`{name}` (use `{key}`)"),
        None => format!("`{name}`"),
    }
}

/// Directives, and the annotation or ConfigMap key that does the same.
const ADVICE: &[(&str, &str)] = &[
    ("add_header", "custom-headers"),
    ("allow", "allowlist-source-range"),
    ("auth_basic", "auth-type"),
    ("auth_request", "auth-url"),
    ("client_body_buffer_size", "client-body-buffer-size"),
    ("client_max_body_size", "proxy-body-size"),
    ("deny", "denylist-source-range"),
    ("gzip", "use-gzip"),
    ("limit_conn", "limit-connections"),
    ("limit_rate", "limit-rate"),
    ("limit_req", "limit-rps"),
    ("more_clear_headers", "hide-headers"),
    ("more_set_headers", "custom-headers"),
    ("proxy_buffer_size", "proxy-buffer-size"),
    ("proxy_connect_timeout", "proxy-connect-timeout"),
    ("proxy_cookie_domain", "proxy-cookie-domain"),
    ("proxy_cookie_path", "proxy-cookie-path"),
    ("proxy_hide_header", "hide-headers"),
    ("proxy_next_upstream", "proxy-next-upstream"),
    ("proxy_read_timeout", "proxy-read-timeout"),
    ("proxy_redirect", "proxy-redirect-from"),
    ("proxy_send_timeout", "proxy-send-timeout"),
    ("proxy_set_header", "proxy-set-headers"),
    ("proxy_ssl_name", "proxy-ssl-name"),
    ("return", "permanent-redirect"),
    ("rewrite", "rewrite-target"),
    ("satisfy", "satisfy"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Template;

    fn honoured(snippet: &str) -> Result<Vec<Filter>, String> {
        let mut settings = Settings::default();
        allow("true", &mut settings).unwrap();
        read(snippet, &mut settings)?;
        Ok(settings.snippets.filters)
    }

    #[test]
    fn directives_that_are_data_are_honoured() {
        let fields = |name: &str, value: &str| [(name.into(), value.into())].into();
        let found = honoured(
            "# a comment\n\
             add_header X-Frame-Options \"DENY\" always;\n\
             more_set_headers 'X-A: b; c';\n\
             more_clear_headers Server X-Powered-By;\n\
             proxy_set_header X-Tenant shop;\n\
             return 301 https://new.test$request_uri;\n",
        )
        .unwrap();
        let [first, second, third, fourth, Filter::Respond(respond)] = &found[..] else {
            panic!("{found:?}")
        };
        assert_eq!(
            *first,
            Filter::ResponseHeaders(fields("x-frame-options", "DENY"))
        );
        assert_eq!(*second, Filter::ResponseHeaders(fields("x-a", "b; c")));
        let hidden = ["server".into(), "x-powered-by".into()].into();
        assert_eq!(*third, Filter::HideHeaders(hidden));
        let tenant = ("x-tenant".into(), Template::text("shop"));
        assert_eq!(*fourth, Filter::RequestHeaders([tenant].into()));
        assert_eq!(respond.status, 301);
    }

    #[test]
    fn replacements_in_bodies_are_one_setting() {
        let mut settings = Settings::default();
        allow("true", &mut settings).unwrap();
        let snippet = "sub_filter 'HTTP://a' https://a; sub_filter b '';\n\
                       sub_filter_once off; sub_filter_types text/CSS;";
        read(snippet, &mut settings).unwrap();
        let substitution = settings.snippets.substitution().unwrap();
        let pairs = [
            ("http://a".into(), "https://a".into()),
            ("b".into(), "".into()),
        ];
        assert_eq!(*substitution.pairs, pairs);
        assert_eq!(*substitution.types, ["text/css".into()]);
        assert!(!substitution.is_once && !substitution.keeps_last_modified);
        assert_eq!(settings.snippets.filters, []);
    }

    #[test]
    fn everything_else_is_refused_by_name() {
        for (snippet, named) in [
            ("lua_code_cache off;", "lua_code_cache"),
            ("deny all;", "denylist-source-range"),
            ("rewrite ^/a /b;", "rewrite-target"),
            ("if ($host = a) { rewrite ^/a /b; }", "rewrite-target"),
            ("if (-f /etc/passwd) { return 403; }", "if"),
            ("sub_filter a $host;", "sub_filter"),
            ("sub_filter '' b;", "sub_filter"),
            ("sub_filter_once maybe;", "sub_filter_once"),
            ("location /x { proxy_pass http://a; }", "proxy_pass"),
            ("add_header X-A b { }", "add_header"),
            ("add_header X-A $host;", "x-a"),
            ("return 301;", "return"),
            ("return 200 text;", "return"),
            ("add_header \"X A\" b;", "field"),
        ] {
            let message = honoured(snippet).unwrap_err();
            assert!(message.contains(named), "{snippet}: {message}");
        }
        for broken in ["add_header X-A b", "}", "add_header \"X-A b;", "location {"] {
            honoured(broken).unwrap_err();
        }
    }

    #[test]
    fn snippets_have_to_be_allowed() {
        let mut settings = Settings::default();
        let message = read("add_header X-A b; deny all;", &mut settings).unwrap_err();
        assert!(
            message.contains("`add_header` (use `custom-headers`)"),
            "{message}"
        );
        assert!(message.contains("`deny`"), "{message}");
        assert_eq!(settings.snippets.filters, []);
        read(" \n", &mut settings).unwrap();
    }
}
