//! Settings of how endpoints share requests, by ingress-nginx's names: `load-balance`,
//! `upstream-hash-by`, `affinity` and what its cookie looks like.

use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::Settings;
use super::template::template;
use crate::ir::{Affinity, AffinityMode, Balance, HashBy};

/// The settings for subsets of endpoints, as the keys give them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Subset {
    is_on: bool,
    size: NonZeroU32,
}

impl Default for Subset {
    fn default() -> Self {
        Self {
            is_on: false,
            size: NonZeroU32::MIN.saturating_add(2),
        }
    }
}

/// Puts together the pieces of sessions and subsets.
pub(super) fn finish(settings: &mut Settings) {
    settings.backend.affinity = settings.session.affinity();
    let Subset { is_on, size } = settings.subset;
    let by = match &settings.backend.balance {
        Some(Balance::Hash(by) | Balance::HashSubset(by, _)) => by.clone(),
        _ => return,
    };
    settings.backend.balance = Some(if is_on {
        Balance::HashSubset(by, size)
    } else {
        Balance::Hash(by)
    });
}

/// The settings for session affinity, as the keys give them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    is_on: bool,
    mode: AffinityMode,
    cookie: Arc<str>,
    path: Option<Arc<str>>,
    domain: Option<Arc<str>>,
    max_age: Option<u32>,
    expires: Option<u32>,
    same_site: Option<&'static str>,
    is_secure: Option<bool>,
    /// Whether `SameSite=None` is left out for clients that take it for `Strict`.
    has_conditional_none: bool,
    change_on_failure: bool,
}

impl Default for Session {
    fn default() -> Self {
        Self {
            is_on: false,
            mode: AffinityMode::Balanced,
            cookie: "INGRESSCOOKIE".into(),
            path: None,
            domain: None,
            max_age: None,
            expires: None,
            same_site: None,
            is_secure: None,
            has_conditional_none: false,
            change_on_failure: false,
        }
    }
}

impl Session {
    /// The pieces together, if there are to be sessions.
    pub(super) fn affinity(&self) -> Option<Arc<Affinity>> {
        if !self.is_on {
            return None;
        }
        let mut attributes = String::new();
        // Writing to a text does not fail.
        if let Some(domain) = &self.domain {
            let _ = write!(attributes, "; Domain={domain}");
        }
        if let Some(seconds) = self.max_age {
            let _ = write!(attributes, "; Max-Age={seconds}");
        }
        let same_site_none_if_understood =
            self.has_conditional_none && self.same_site == Some("None");
        if let Some(same_site) = self.same_site
            && !same_site_none_if_understood
        {
            let _ = write!(attributes, "; SameSite={same_site}");
        }
        if self.is_secure == Some(true) {
            attributes.push_str("; Secure");
        }
        attributes.push_str("; HttpOnly");
        Some(Arc::new(Affinity {
            cookie: Arc::clone(&self.cookie),
            mode: self.mode,
            path: self.path.clone(),
            attributes: attributes.into(),
            expires: self.expires,
            secure_over_https: self.is_secure.is_none(),
            same_site_none_if_understood,
            change_on_failure: self.change_on_failure,
        }))
    }
}

pub(super) fn load_balance(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.backend.balance = Some(match value.trim() {
        "round_robin" => Balance::RoundRobin,
        "ewma" => Balance::PeakEwma,
        "least_request" => Balance::LeastRequest,
        // ingress-nginx's names for balancers that other annotations choose.
        "chash" | "chashsubset" | "sticky_balanced" | "sticky_persistent" => return Ok(()),
        _ => return wrong(value, "round_robin, ewma, least_request"),
    });
    Ok(())
}

/// One of nginx's variables, or a text with several.
pub(super) fn upstream_hash_by(value: &str, settings: &mut Settings) -> Result<(), String> {
    let name = value.trim();
    let field = name.strip_prefix("$http_").filter(|field| is_token(field));
    let by = match (name, field) {
        ("$request_uri", _) => HashBy::Uri,
        ("$uri", _) => HashBy::Path,
        ("$host" | "$http_host", _) => HashBy::Host,
        ("$remote_addr" | "$binary_remote_addr" | "$the_real_ip", _) => HashBy::ClientAddress,
        (_, Some(field)) => HashBy::Field(field.replace('_', "-").to_ascii_lowercase().into()),
        (_, None) => {
            let template = template(name)?;
            if template.as_text().is_some() {
                return Err(format!("`{value}` has no variable; ignored"));
            }
            HashBy::Text(Arc::new(template))
        }
    };
    settings.backend.balance = Some(Balance::Hash(by));
    Ok(())
}

/// Source: ingress-nginx, annotation `upstream-hash-by-subset`.
pub(super) fn hash_by_subset(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.subset.is_on = super::boolean(value)?;
    Ok(())
}

/// Source: ingress-nginx, annotation `upstream-hash-by-subset-size`.
pub(super) fn subset_size(value: &str, settings: &mut Settings) -> Result<(), String> {
    let size = value.trim().parse();
    settings.subset.size =
        size.map_err(|_| format!("`{value}` is not a number above 0; ignored"))?;
    Ok(())
}

pub(super) fn affinity(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.session.is_on = match value.trim() {
        "cookie" => true,
        "" => false,
        _ => return wrong(value, "cookie"),
    };
    Ok(())
}

pub(super) fn affinity_mode(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.session.mode = match value.trim() {
        "balanced" => AffinityMode::Balanced,
        "persistent" => AffinityMode::Persistent,
        _ => return wrong(value, "balanced, persistent"),
    };
    Ok(())
}

pub(super) fn cookie_name(value: &str, settings: &mut Settings) -> Result<(), String> {
    if !is_token(value) {
        return Err(format!(
            "`{value}` is no name that a cookie may have; ignored"
        ));
    }
    settings.session.cookie = value.into();
    Ok(())
}

pub(super) fn cookie_path(value: &str, settings: &mut Settings) -> Result<(), String> {
    if !value.starts_with('/') || !is_attribute(value) {
        return Err(format!(
            "`{value}` is no path that a cookie may have; ignored"
        ));
    }
    settings.session.path = Some(value.into());
    Ok(())
}

pub(super) fn cookie_domain(value: &str, settings: &mut Settings) -> Result<(), String> {
    if value.is_empty() || !is_attribute(value) {
        return Err(format!(
            "`{value}` is no domain that a cookie may have; ignored"
        ));
    }
    settings.session.domain = Some(value.into());
    Ok(())
}

pub(super) fn cookie_max_age(value: &str, settings: &mut Settings) -> Result<(), String> {
    let seconds = value.trim().parse();
    let seconds = seconds.map_err(|_| format!("`{value}` is no number of seconds; ignored"))?;
    settings.session.max_age = Some(seconds);
    Ok(())
}

/// Source: ingress-nginx, annotation `session-cookie-expires`.
pub(super) fn cookie_expires(value: &str, settings: &mut Settings) -> Result<(), String> {
    let seconds = value.trim().parse();
    let seconds = seconds.map_err(|_| format!("`{value}` is not a number of seconds; ignored"))?;
    settings.session.expires = Some(seconds);
    Ok(())
}

pub(super) fn cookie_same_site(value: &str, settings: &mut Settings) -> Result<(), String> {
    let known = ["Strict", "Lax", "None"];
    let found = known
        .iter()
        .find(|known| known.eq_ignore_ascii_case(value.trim()));
    let Some(same_site) = found else {
        return wrong(value, "Strict, Lax, None");
    };
    settings.session.same_site = Some(same_site);
    Ok(())
}

pub(super) fn cookie_secure(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.session.is_secure = Some(super::boolean(value)?);
    Ok(())
}

/// Source: ingress-nginx, annotation `session-cookie-conditional-samesite-none`.
pub(super) fn conditional_same_site_none(
    value: &str,
    settings: &mut Settings,
) -> Result<(), String> {
    settings.session.has_conditional_none = super::boolean(value)?;
    Ok(())
}

pub(super) fn change_on_failure(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.session.change_on_failure = super::boolean(value)?;
    Ok(())
}

fn wrong(value: &str, known: &str) -> Result<(), String> {
    Err(format!("`{value}` is not one of {known}; ignored"))
}

/// RFC 9110 §5.6.2: what names of fields and cookies are made of.
fn is_token(text: &str) -> bool {
    let is_sign = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || is_sign(byte))
}

/// RFC 6265 §4.1.1: what values of attributes are made of.
fn is_attribute(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'!'..=b'~') && byte != b';')
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::{Mistake, of_ingress};
    use super::*;

    fn read(annotations: &[(&str, &str)]) -> (Settings, Vec<Mistake>) {
        let owned = |(key, value): &(&str, &str)| {
            (
                format!("nginx.ingress.kubernetes.io/{key}"),
                (*value).to_owned(),
            )
        };
        let annotations: BTreeMap<_, _> = annotations.iter().map(owned).collect();
        of_ingress(&annotations, Settings::default(), &BTreeSet::new())
    }

    #[test]
    fn balancing_is_read_and_a_hash_counts_more() {
        let balance = |annotations: &[(&str, &str)]| read(annotations).0.backend.balance;
        assert_eq!(balance(&[]), None);
        assert_eq!(
            balance(&[("load-balance", "ewma")]),
            Some(Balance::PeakEwma)
        );
        let both = [
            ("upstream-hash-by", "$request_uri"),
            ("load-balance", "ewma"),
        ];
        assert_eq!(balance(&both), Some(Balance::Hash(HashBy::Uri)));
        let field = balance(&[("upstream-hash-by", "$http_x_User")]);
        assert_eq!(field, Some(Balance::Hash(HashBy::Field("x-user".into()))));
        let text = balance(&[("upstream-hash-by", "$request_uri$host")]);
        assert!(matches!(text, Some(Balance::Hash(HashBy::Text(_)))));
        for wrong in ["text", "$http_", "$nothing", "a$"] {
            let (settings, mistakes) = read(&[("upstream-hash-by", wrong)]);
            assert_eq!(
                (settings.backend.balance, mistakes.len()),
                (None, 1),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_subset_counts_beside_a_hash_only() {
        let balance = |annotations: &[(&str, &str)]| read(annotations).0.backend.balance;
        let on = ("upstream-hash-by-subset", "true");
        let hash = ("upstream-hash-by", "$request_uri");
        let subset = |size| {
            let size = NonZeroU32::new(size).unwrap();
            Some(Balance::HashSubset(HashBy::Uri, size))
        };
        assert_eq!(balance(&[on]), None);
        assert_eq!(balance(&[on, hash]), subset(3));
        let size = |size| ("upstream-hash-by-subset-size", size);
        assert_eq!(balance(&[on, hash, size("5")]), subset(5));
        let without = balance(&[hash, size("5")]);
        assert_eq!(without, Some(Balance::Hash(HashBy::Uri)));
        let (settings, mistakes) = read(&[on, hash, size("0")]);
        assert_eq!((settings.backend.balance, mistakes.len()), (subset(3), 1));
    }

    #[test]
    fn secure_follows_the_scheme_unless_it_is_given() {
        let affinity = |value: Option<&str>| {
            let secure = value.map(|value| ("session-cookie-secure", value));
            let all: Vec<_> = [("affinity", "cookie")].into_iter().chain(secure).collect();
            let affinity = read(&all).0.backend.affinity.unwrap();
            let is_always = affinity.attributes.contains("; Secure");
            (is_always, affinity.secure_over_https)
        };
        assert_eq!(affinity(None), (false, true));
        assert_eq!(affinity(Some("true")), (true, false));
        assert_eq!(affinity(Some("false")), (false, false));
    }

    #[test]
    fn a_session_has_a_cookie_of_all_its_pieces() {
        let name = ("session-cookie-name", "route");
        assert_eq!(read(&[name]).0.backend.affinity, None);
        let (settings, mistakes) = read(&[
            ("affinity", "cookie"),
            ("affinity-mode", "persistent"),
            name,
            ("session-cookie-path", "/shop"),
            ("session-cookie-domain", "a.test"),
            ("session-cookie-max-age", "3600"),
            ("session-cookie-samesite", "lax"),
            ("session-cookie-secure", "true"),
            ("session-cookie-change-on-failure", "true"),
        ]);
        assert_eq!(mistakes, []);
        let affinity = settings.backend.affinity.unwrap();
        assert_eq!(
            (&*affinity.cookie, affinity.mode),
            ("route", AffinityMode::Persistent)
        );
        let attributes = "; Domain=a.test; Max-Age=3600; SameSite=Lax; Secure; HttpOnly";
        assert_eq!(&*affinity.attributes, attributes);
        assert_eq!(affinity.path.as_deref(), Some("/shop"));
        assert!(affinity.change_on_failure);
    }

    #[test]
    fn cookie_attributes_cannot_be_injected() {
        for (key, value) in [
            ("session-cookie-name", "a=b"),
            ("session-cookie-name", ""),
            ("session-cookie-path", "/; Domain=evil"),
            ("session-cookie-path", "shop"),
            ("session-cookie-domain", "a\r\nSet-Cookie: b"),
            ("session-cookie-max-age", "-1"),
            ("session-cookie-samesite", "maybe"),
            ("session-cookie-secure", "yes"),
            ("affinity-mode", "sometimes"),
        ] {
            let (settings, mistakes) = read(&[("affinity", "cookie"), (key, value)]);
            assert_eq!(mistakes.len(), 1, "{key}");
            let affinity = settings.backend.affinity.unwrap();
            assert_eq!(&*affinity.attributes, "; HttpOnly", "{key}");
            assert_eq!(affinity.path, None, "{key}");
            assert_eq!(&*affinity.cookie, "INGRESSCOOKIE", "{key}");
        }
    }
}
