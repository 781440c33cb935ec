//! Cookies of logins: their names, their attributes, and requests without them (RFC 6265).
//!
//! Over HTTPS their names begin with `__Host-` or `__Secure-`, so that no other host of the domain and no
//! connection in clear text can set them (RFC 6265bis §4.1.3).

use std::fmt::Write as _;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};

/// The cookie of a session: `id` tells it from those of other clients and other sets of claims.
pub fn session_name(id: &str, is_https: bool) -> String {
    let prefix = if is_https { "__Host-" } else { "" };
    format!("{prefix}{OURS}{id}")
}

/// The cookie of a login that is under way. Logins in several tabs have several; `number` chooses among
/// [`LOGINS`] names, which bounds what a browser keeps.
pub fn login_name(id: &str, number: u8, is_https: bool) -> String {
    let prefix = if is_https { "__Secure-" } else { "" };
    let number = number % LOGINS;
    format!("{prefix}{OURS}login-{number}-{id}")
}

/// The values of the cookies of a name. There may be several, as another host of the domain may have set one in
/// clear text; further ones are left out.
pub fn values<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    let values = cookies(headers).filter_map(move |cookie| {
        let rest = cookie.strip_prefix(name.as_bytes())?;
        rest.strip_prefix(b"=")
    });
    values.take(VALUES_MAX)
}

/// The Cookie field without the cookies of logins. `None`: there are none of them; `Some(None)`: there are no
/// others.
pub fn without_ours(headers: &HeaderMap) -> Option<Option<HeaderValue>> {
    if !cookies(headers).any(is_ours) {
        return None;
    }
    let others = cookies(headers).filter(|cookie| !is_ours(cookie) && !cookie.is_empty());
    let mut line = Vec::new();
    for cookie in others {
        if !line.is_empty() {
            line.extend_from_slice(b"; ");
        }
        line.extend_from_slice(cookie);
    }
    if line.is_empty() {
        return Some(None);
    }
    Some(HeaderValue::from_bytes(&line).ok())
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(COOKIE).into_iter();
    let cookies = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    cookies.map(<[u8]>::trim_ascii)
}

fn is_ours(cookie: &[u8]) -> bool {
    let plain = cookie.strip_prefix(b"__Host-");
    let plain = plain.or_else(|| cookie.strip_prefix(b"__Secure-"));
    plain.unwrap_or(cookie).starts_with(OURS.as_bytes())
}

/// The Set-Cookie field for a cookie that lasts some seconds; 0 seconds removes it.
///
/// `SameSite=Lax`: the provider sends the browser back by a link, with the cookie; forms and scripts of other
/// sites come without it.
pub fn set(
    name: &str,
    value: &str,
    path: &str,
    seconds: u32,
    is_https: bool,
) -> Option<HeaderValue> {
    let mut text =
        format!("{name}={value}; Path={path}; Max-Age={seconds}; HttpOnly; SameSite=Lax");
    if is_https {
        let _ = text.write_str("; Secure");
    }
    HeaderValue::try_from(text).ok()
}

/// What all names have in common, behind their prefixes.
const OURS: &str = "sluice-oidc-";
/// Logins that a browser has under way at a time.
pub const LOGINS: u8 = 16;
/// Bytes of a name and a value that browsers keep.
///
/// Source: RFC 6265bis §5.6.
pub const BYTES_MAX: usize = 4096;
const VALUES_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let lines = lines
            .iter()
            .map(|line| (COOKIE, HeaderValue::from_static(line)));
        lines.collect()
    }

    #[test]
    fn endpoint_gets_other_cookies_only() {
        let rest = |lines: &[&'static str]| {
            let rest = without_ours(&headers(lines))?;
            Some(rest.map(|value| value.to_str().unwrap().to_owned()))
        };
        assert_eq!(rest(&[]), None);
        assert_eq!(rest(&["a=1; b=2"]), None);
        assert_eq!(rest(&["a=sluice-oidc-x"]), None);
        assert_eq!(rest(&["sluice-oidc-x=1"]), Some(None));
        assert_eq!(
            rest(&["__Host-sluice-oidc-x=1; ", "sluice-oidc-login-1-x=2"]),
            Some(None)
        );
        let kept = Some(Some("a=1; b=\"2\"; c".to_owned()));
        assert_eq!(rest(&["a=1;__Host-sluice-oidc-x=1; b=\"2\"", "c"]), kept);
        assert_eq!(
            rest(&["__Secure-sluice-oidc-login-3-x=y; a=1"]),
            Some(Some("a=1".to_owned()))
        );
    }

    #[test]
    fn all_values_of_a_name_are_found_up_to_a_bound() {
        let found = |lines: &[&'static str]| values(&headers(lines), "s").count();
        assert_eq!(found(&["s=1; as=2; s2=3; s"]), 1);
        assert_eq!(found(&["s=1; s=2", "s=3"]), 3);
        assert_eq!(found(&["s=1; s=2; s=3; s=4; s=5; s=6"]), VALUES_MAX);
    }

    #[test]
    fn cookies_are_kept_from_scripts_and_from_other_sites() {
        let name = session_name("ab", true);
        let secure = set(&name, "v", "/", 60, true).unwrap();
        assert_eq!(
            secure.to_str().unwrap(),
            "__Host-sluice-oidc-ab=v; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
        );
        let clear = set(
            &login_name("ab", 9, false),
            "",
            "/oauth2/callback",
            0,
            false,
        )
        .unwrap();
        assert_eq!(
            clear.to_str().unwrap(),
            "sluice-oidc-login-9-ab=; Path=/oauth2/callback; Max-Age=0; HttpOnly; SameSite=Lax"
        );
    }
}
