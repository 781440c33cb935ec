//! JSON Web Tokens: `auth-jwt-*`, which ingress-nginx does not have.
//!
//! Invariant: an unreadable setting refuses every request.

use std::sync::Arc;

use super::{Settings, claims};
use crate::ir::{JwtAlgorithm, JwtAuth, JwtKeys};

/// The settings for tokens, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct JwtSettings {
    /// Whether any of the keys is given.
    is_asked: bool,
    url: Option<Arc<str>>,
    /// The object with the keys.
    pub(crate) source: Option<JwksSource>,
    issuer: Option<Arc<str>>,
    audiences: Box<[Box<str>]>,
    algorithms: Option<Box<[JwtAlgorithm]>>,
    leeway: Option<u32>,
    cookie: Option<Arc<str>>,
    fields: Box<[(Box<str>, Box<str>)]>,
}

/// The object with the keys, as `namespace/name`, or a name in the namespace of the Ingress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JwksSource {
    Secret(Arc<str>),
    ConfigMap(Arc<str>),
}

impl JwtSettings {
    /// Whether tokens are asked for, and no annotation says where their keys are.
    pub(crate) fn lacks_keys(&self) -> bool {
        self.is_asked && self.url.is_none() && self.source.is_none()
    }

    /// The pieces together, if tokens are asked for. Keys of an object are not known yet.
    pub(crate) fn auth(&self) -> Option<Arc<JwtAuth>> {
        let keys = match (&self.url, &self.source) {
            (_, Some(_)) => JwtKeys::Set("".into()),
            (Some(url), None) => JwtKeys::Url(Arc::clone(url)),
            (None, None) => return None,
        };
        let algorithms = self.algorithms.clone();
        Some(Arc::new(JwtAuth {
            keys,
            issuer: self.issuer.clone(),
            audiences: self.audiences.clone(),
            algorithms: algorithms.unwrap_or_else(|| ALGORITHMS.into()),
            leeway: self.leeway.unwrap_or(LEEWAY),
            cookie: self.cookie.clone(),
            fields: self.fields.clone(),
        }))
    }
}

pub(super) fn url(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    settings.jwt.url = Some(claims::url(value)?);
    Ok(())
}

pub(super) fn secret(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    settings.jwt.source = Some(JwksSource::Secret(claims::object(value)?));
    Ok(())
}

pub(super) fn config_map(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    settings.jwt.source = Some(JwksSource::ConfigMap(claims::object(value)?));
    Ok(())
}

pub(super) fn issuer(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    let value = value.trim();
    if value.is_empty() {
        return Err("is empty, the issuer of tokens is expected".to_owned());
    }
    settings.jwt.issuer = Some(value.into());
    Ok(())
}

pub(super) fn audience(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    settings.jwt.audiences = claims::list(value)?;
    Ok(())
}

pub(super) fn algorithms(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    let algorithm = |name: &str| {
        let mut all = JwtAlgorithm::ALL.into_iter();
        let found = all.find(|known| known.name() == name);
        found.ok_or_else(|| {
            let known = JwtAlgorithm::ALL.map(JwtAlgorithm::name).join(", ");
            format!("`{name}` is not one of {known}")
        })
    };
    let names = claims::list(value)?;
    let algorithms: Result<_, _> = names.iter().map(|name| algorithm(name)).collect();
    settings.jwt.algorithms = Some(algorithms?);
    Ok(())
}

pub(super) fn leeway(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    let seconds = value.trim().parse().ok();
    let seconds = seconds.filter(|seconds| *seconds <= LEEWAY_MAX);
    let wrong = || format!("`{value}` is not a number of seconds up to {LEEWAY_MAX}");
    settings.jwt.leeway = Some(seconds.ok_or_else(wrong)?);
    Ok(())
}

pub(super) fn cookie(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    let value = value.trim();
    let is_part = |byte: u8| byte.is_ascii_graphic() && !b";,=\"".contains(&byte);
    if value.is_empty() || !value.bytes().all(is_part) {
        return Err(format!("`{value}` is not the name of a cookie"));
    }
    settings.jwt.cookie = Some(value.into());
    Ok(())
}

/// `claim: field`, with commas in between.
pub(super) fn claims_to_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.jwt.is_asked = true;
    settings.jwt.fields = claims::fields(value)?;
    Ok(())
}

/// What most issuers sign with.
const ALGORITHMS: [JwtAlgorithm; 2] = [JwtAlgorithm::Rs256, JwtAlgorithm::Es256];
const LEEWAY: u32 = 30;
const LEEWAY_MAX: u32 = 3600;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::annotation::of_ingress;

    fn read(annotations: &[(&str, &str)]) -> (Settings, usize) {
        let owned = |(key, value): &(&str, &str)| {
            (format!("sluice.dev/auth-jwt-{key}"), (*value).to_owned())
        };
        let annotations: BTreeMap<_, _> = annotations.iter().map(owned).collect();
        let (settings, mistakes) = of_ingress(&annotations, Settings::default(), &BTreeSet::new());
        (settings, mistakes.len())
    }

    const URL: (&str, &str) = ("jwks-url", "https://id.test/keys");

    #[test]
    fn tokens_are_asked_for_where_their_keys_are_given() {
        let (settings, mistakes) = read(&[
            URL,
            ("issuer", "https://id.test"),
            ("audience", "web, api"),
            ("algorithms", "RS256, EdDSA"),
            ("leeway", "5"),
            ("cookie", "session"),
            (
                "claims-to-headers",
                "sub: X-User, https://a.test/role: X-Role",
            ),
        ]);
        assert_eq!((mistakes, settings.is_closed), (0, false));
        let auth = settings.jwt.auth().unwrap();
        assert_eq!(auth.keys, JwtKeys::Url("https://id.test/keys".into()));
        assert_eq!(auth.issuer.as_deref(), Some("https://id.test"));
        assert_eq!(*auth.audiences, ["web".into(), "api".into()]);
        let algorithms = [JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa];
        assert_eq!(*auth.algorithms, algorithms);
        assert_eq!((auth.leeway, auth.cookie.as_deref()), (5, Some("session")));
        let fields = [("sub", "x-user"), ("https://a.test/role", "x-role")];
        assert_eq!(*auth.fields, fields.map(|(a, b)| (a.into(), b.into())));
        assert_eq!(*read(&[URL]).0.jwt.auth().unwrap().algorithms, ALGORITHMS);
        assert_eq!(read(&[]).0.jwt.auth(), None);
    }

    #[test]
    fn invalid_values_close_the_rules() {
        for (key, value) in [
            ("jwks-url", ""),
            ("jwks-url", "/keys"),
            ("jwks-url", "file:///keys"),
            ("jwks-secret", "a/b/c"),
            ("jwks-secret", ""),
            ("jwks-config-map", "a/"),
            ("issuer", " "),
            ("audience", "a,,b"),
            ("algorithms", ""),
            ("algorithms", "none"),
            ("algorithms", "HS256"),
            ("algorithms", "RS256, hs512"),
            ("leeway", "-1"),
            ("leeway", "3601"),
            ("cookie", "a=b"),
            ("claims-to-headers", "sub"),
            ("claims-to-headers", "sub: a b"),
            ("claims-to-headers", ": X-User"),
            ("claims-to-headers", "sub: Host"),
            ("claims-to-headers", "sub: X-User\r\nX: y"),
            ("typo", "x"),
        ] {
            let (settings, mistakes) = read(&[URL, (key, value)]);
            assert!(settings.is_closed && mistakes == 1, "{key}: {value}");
        }
    }
}
