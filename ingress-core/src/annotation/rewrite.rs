//! New paths for endpoints, by ingress-nginx's names: `rewrite-target`, `use-regex`,
//! `x-forwarded-prefix`, `app-root`, `upstream-vhost`.

use super::{Settings, boolean};
use crate::ir::TemplatePart;

/// Source: ingress-nginx, annotation `rewrite-target`.
pub(super) fn target(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    rewrite_template(value)?;
    settings.rewrite_target = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `use-regex`.
pub(super) fn use_regex(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.use_regex = boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `app-root`: an absolute path.
pub(super) fn app_root(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    if !value.starts_with('/') || value.starts_with("//") || !is_graphic(value) {
        return Err(format!("`{value}` is not a path from the root; ignored"));
    }
    settings.app_root = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `x-forwarded-prefix`.
pub(super) fn forwarded_prefix(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    if value.is_empty() || !is_graphic(value) {
        return Err(format!("`{value}` is not a path; ignored"));
    }
    settings.forwarded_prefix = Some(value.into());
    Ok(())
}

/// Source: ingress-nginx, annotation `upstream-vhost`.
pub(super) fn upstream_vhost(value: &str, settings: &mut Settings) -> Result<(), String> {
    let value = value.trim();
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_host) {
        return Err(format!("`{value}` is not a host; ignored"));
    }
    settings.upstream_vhost = Some(value.into());
    Ok(())
}

/// Reads the template of a new path: text with `$1` to `$9`.
///
/// # Errors
///
/// What is wrong with it, in words: a character that ingress-nginx refuses, or a dollar sign
/// without a digit from 1 to 9 behind it.
pub(crate) fn rewrite_template(value: &str) -> Result<Box<[TemplatePart]>, String> {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/:$".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_allowed) {
        return Err(format!(
            "`{value}` is not a path of letters, digits, `-._~/:` and `$1` to `$9`; ignored"
        ));
    }
    let mut parts = Vec::new();
    let mut pieces = value.split('$');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digit = piece.chars().next().and_then(|first| first.to_digit(10));
        let Some(digit @ 1..) = digit else {
            return Err(format!(
                "`{value}` has a `$` without a digit from 1 to 9; ignored"
            ));
        };
        if !text.is_empty() {
            parts.push(TemplatePart::Text(text.as_str().into()));
        }
        parts.push(TemplatePart::Group(digit as usize));
        piece[1..].clone_into(&mut text);
    }
    if !text.is_empty() {
        parts.push(TemplatePart::Text(text.into()));
    }
    Ok(parts.into())
}

fn is_graphic(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_text_and_groups() {
        let text = |text: &str| TemplatePart::Text(text.into());
        let read = |value: &str| rewrite_template(value).map(Vec::from);
        assert_eq!(read("/"), Ok(vec![text("/")]));
        assert_eq!(read("/$2"), Ok(vec![text("/"), TemplatePart::Group(2)]));
        let three = [TemplatePart::Group(1), text("0/x"), TemplatePart::Group(9)];
        assert_eq!(read("$10/x$9"), Ok(three.to_vec()));
        for wrong in [
            "", "/a b", "/$", "/$x", "/$0", "/a?b=$1", "/a;", "/\"", "/ü",
        ] {
            read(wrong).unwrap_err();
        }
    }
}
