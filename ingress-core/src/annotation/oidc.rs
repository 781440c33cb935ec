//! Logins at an OpenID provider: `auth-oidc-*`, which ingress-nginx does not have.
//!
//! Invariant: an unreadable setting refuses every request.

use std::sync::Arc;

use super::claims::ClaimFields;
use super::{Settings, claims};
use crate::ir::OidcAuth;
use crate::route::normalise;

/// The settings for logins, as the keys give them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct OidcSettings {
    /// Whether any of the keys is given.
    is_asked: bool,
    issuer: Option<Arc<str>>,
    /// The Secret with the account at the provider.
    pub(crate) secret: Option<Arc<str>>,
    scopes: Option<Arc<str>>,
    callback_path: Option<Arc<str>>,
    logout_path: Option<Arc<str>>,
    logout_url: Option<Arc<str>>,
    groups: Box<[Box<str>]>,
    groups_claim: Option<Arc<str>>,
    fields: ClaimFields,
    session_lifetime: Option<u32>,
}

impl OidcSettings {
    /// Why logins are asked for and impossible: the key, and what is wrong.
    pub(crate) fn fault(&self) -> Option<(&'static str, &'static str)> {
        if !self.is_asked {
            return None;
        }
        if self.issuer.is_none() {
            return Some((
                "auth-oidc-issuer",
                "there is no `auth-oidc-issuer` with the URL of the provider",
            ));
        }
        if self.secret.is_none() {
            return Some((
                "auth-oidc-secret",
                "there is no `auth-oidc-secret` with the account at the provider",
            ));
        }
        let (callback, logout) = self.paths();
        (callback == logout).then_some((
            "auth-oidc-logout-path",
            "`auth-oidc-logout-path` is the callback path as well",
        ))
    }

    /// The paths that the proxy answers itself, if logins are asked for.
    pub(crate) fn own_paths(&self) -> Option<[(&'static str, Arc<str>); 2]> {
        self.issuer.as_ref()?;
        let (callback, logout) = self.paths();
        let callback = ("auth-oidc-callback-path", callback);
        Some([callback, ("auth-oidc-logout-path", logout)])
    }

    fn paths(&self) -> (Arc<str>, Arc<str>) {
        let callback = self.callback_path.clone();
        let logout = self.logout_path.clone();
        (
            callback.unwrap_or_else(|| CALLBACK_PATH.into()),
            logout.unwrap_or_else(|| LOGOUT_PATH.into()),
        )
    }

    /// The pieces together, if logins are asked for. The Secret is not read yet.
    pub(crate) fn auth(&self) -> Option<Arc<OidcAuth>> {
        let issuer = self.issuer.clone()?;
        let (callback_path, logout_path) = self.paths();
        let (scopes, claim) = (self.scopes.clone(), self.groups_claim.clone());
        Some(Arc::new(OidcAuth {
            issuer,
            client: None,
            scopes: scopes.unwrap_or_else(|| SCOPES.into()),
            callback_path,
            logout_path,
            logout_url: self.logout_url.clone(),
            groups: self.groups.clone(),
            groups_claim: claim.unwrap_or_else(|| GROUPS_CLAIM.into()),
            fields: self.fields.clone(),
            session_lifetime: self.session_lifetime.unwrap_or(LIFETIME),
        }))
    }
}

/// Source: OpenID Connect Discovery 1.0 §3: no query and no fragment.
pub(super) fn issuer(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    let issuer = claims::url(value)?;
    if issuer.contains(['?', '#', '@']) {
        return Err(format!("`{issuer}` has more than a host and a path"));
    }
    settings.oidc.issuer = Some(issuer);
    Ok(())
}

pub(super) fn secret(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    settings.oidc.secret = Some(claims::object(value)?);
    Ok(())
}

/// Source: RFC 6749 §3.3.
pub(super) fn scopes(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    let words = value.split([' ', ',']).filter(|word| !word.is_empty());
    let mut scopes = vec!["openid"];
    for scope in words {
        let is_scope = |byte: u8| byte.is_ascii_graphic() && !b"\"\\".contains(&byte);
        if !scope.bytes().all(is_scope) {
            return Err(format!("`{scope}` is not a scope"));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    settings.oidc.scopes = Some(scopes.join(" ").into());
    Ok(())
}

pub(super) fn callback_path(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    settings.oidc.callback_path = Some(path(value)?);
    Ok(())
}

pub(super) fn logout_path(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    settings.oidc.logout_path = Some(path(value)?);
    Ok(())
}

/// A path that stands for itself in a URL, in the attribute of a cookie and in a rule.
fn path(value: &str) -> Result<Arc<str>, String> {
    let value = value.trim();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let is_path = value.len() > 1
        && value.len() <= PATH_BYTES_MAX
        && value.starts_with('/')
        && !value.ends_with('/')
        && value.bytes().all(is_plain)
        && normalise(value.as_bytes()).is_ok_and(|path| *path == *value.as_bytes());
    if !is_path {
        return Err(format!(
            "`{value}` is not a path of letters, digits and `/-._~`"
        ));
    }
    Ok(value.into())
}

pub(super) fn logout_url(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    settings.oidc.logout_url = Some(claims::url(value)?);
    Ok(())
}

pub(super) fn groups(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    settings.oidc.groups = claims::list(value)?;
    Ok(())
}

pub(super) fn groups_claim(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    let value = value.trim();
    if !claims::is_claim(value) {
        return Err(format!("`{value}` is not the name of a claim"));
    }
    settings.oidc.groups_claim = Some(value.into());
    Ok(())
}

pub(super) fn claims_to_headers(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    let fields = claims::fields(value)?;
    // The field of the session itself, which the endpoint does not get.
    if fields.iter().any(|(_, field)| **field == *"cookie") {
        return Err("the field `cookie` cannot be set from a claim".to_owned());
    }
    if fields.len() > FIELDS_MAX {
        return Err(format!("has more than {FIELDS_MAX} claims"));
    }
    settings.oidc.fields = fields;
    Ok(())
}

pub(super) fn session_lifetime(value: &str, settings: &mut Settings) -> Result<(), String> {
    settings.oidc.is_asked = true;
    let seconds = value.trim().parse().ok();
    let seconds = seconds.filter(|seconds| (LIFETIME_MIN..=LIFETIME_MAX).contains(seconds));
    let wrong =
        || format!("`{value}` is not a number of seconds from {LIFETIME_MIN} to {LIFETIME_MAX}");
    settings.oidc.session_lifetime = Some(seconds.ok_or_else(wrong)?);
    Ok(())
}

/// Those of oauth2-proxy, which users' providers may know already.
const CALLBACK_PATH: &str = "/oauth2/callback";
const LOGOUT_PATH: &str = "/oauth2/logout";
const SCOPES: &str = "openid email profile";
const GROUPS_CLAIM: &str = "groups";
/// Eight hours: a day at work.
const LIFETIME: u32 = 8 * 3600;
const LIFETIME_MIN: u32 = 60;
const LIFETIME_MAX: u32 = 30 * 24 * 3600;
const PATH_BYTES_MAX: usize = 256;
/// More would not fit into a cookie.
const FIELDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::annotation::of_ingress;

    fn read(annotations: &[(&str, &str)]) -> (Settings, usize) {
        let owned = |(key, value): &(&str, &str)| {
            (format!("sluice.dev/auth-oidc-{key}"), (*value).to_owned())
        };
        let annotations: BTreeMap<_, _> = annotations.iter().map(owned).collect();
        let (settings, mistakes) = of_ingress(&annotations, Settings::default(), &BTreeSet::new());
        (settings, mistakes.len())
    }

    const ISSUER: (&str, &str) = ("issuer", "https://id.test/realm");
    const SECRET: (&str, &str) = ("secret", "login");

    #[test]
    fn an_issuer_and_a_secret_are_enough() {
        let (settings, mistakes) = read(&[ISSUER, SECRET]);
        assert_eq!((mistakes, settings.is_closed), (0, false));
        assert_eq!(settings.oidc.fault(), None);
        let auth = settings.oidc.auth().unwrap();
        assert_eq!(&*auth.issuer, "https://id.test/realm");
        assert_eq!(&*auth.scopes, "openid email profile");
        assert_eq!(&*auth.callback_path, "/oauth2/callback");
        assert_eq!(&*auth.logout_path, "/oauth2/logout");
        assert_eq!(
            (auth.logout_url.clone(), auth.session_lifetime),
            (None, 28800)
        );
        assert_eq!((&*auth.groups_claim, auth.groups.len()), ("groups", 0));
        assert_eq!(auth.client, None);
        assert_eq!(read(&[]).0.oidc.auth(), None);
    }

    #[test]
    fn every_setting_can_be_chosen() {
        let (settings, mistakes) = read(&[
            ISSUER,
            SECRET,
            ("scopes", "groups, openid offline_access"),
            ("callback-path", "/login/done"),
            ("logout-path", "/login/end"),
            ("logout-url", "https://a.test/bye?x=1"),
            ("groups", "admin, dev"),
            ("groups-claim", "https://a.test/roles"),
            (
                "claims-to-headers",
                "sub: X-User, https://a.test/role: X-Role",
            ),
            ("session-lifetime", "600"),
        ]);
        assert_eq!((mistakes, settings.oidc.fault()), (0, None));
        let auth = settings.oidc.auth().unwrap();
        assert_eq!(&*auth.scopes, "openid groups offline_access");
        assert_eq!(
            auth.own_path(b"/login/done"),
            Some(crate::ir::OidcPath::Callback)
        );
        assert_eq!(
            auth.own_path(b"/login/end"),
            Some(crate::ir::OidcPath::Logout)
        );
        assert_eq!(auth.own_path(b"/login"), None);
        assert_eq!(auth.logout_url.as_deref(), Some("https://a.test/bye?x=1"));
        assert_eq!(*auth.groups, ["admin".into(), "dev".into()]);
        assert_eq!(&*auth.groups_claim, "https://a.test/roles");
        let fields = [("sub", "x-user"), ("https://a.test/role", "x-role")];
        assert_eq!(*auth.fields, fields.map(|(a, b)| (a.into(), b.into())));
        assert_eq!(auth.session_lifetime, 600);
    }

    #[test]
    fn invalid_values_close_the_rules() {
        for (key, value) in [
            ("issuer", ""),
            ("issuer", "id.test"),
            ("issuer", "file:///id"),
            ("issuer", "https://id.test/?tenant=1"),
            ("issuer", "https://ann@id.test/"),
            ("secret", "a/b/c"),
            ("secret", ""),
            ("scopes", "a\"b"),
            ("callback-path", "callback"),
            ("callback-path", "/"),
            ("callback-path", "/a/"),
            ("callback-path", "/a/../b"),
            ("callback-path", "//a"),
            ("callback-path", "/a?b"),
            ("callback-path", "/a;Path=/"),
            ("callback-path", "/%61"),
            ("logout-path", ""),
            ("logout-url", "/bye"),
            ("groups", ""),
            ("groups", "a,,b"),
            ("groups-claim", ""),
            ("groups-claim", "a b"),
            ("claims-to-headers", "sub"),
            ("claims-to-headers", "sub: Cookie"),
            ("claims-to-headers", "sub: Host"),
            ("session-lifetime", "59"),
            ("session-lifetime", "8h"),
            ("session-lifetime", "2592001"),
            ("typo", "x"),
        ] {
            let (settings, mistakes) = read(&[ISSUER, SECRET, (key, value)]);
            assert!(settings.is_closed && mistakes == 1, "{key}: {value}");
        }
    }

    #[test]
    fn logins_need_a_provider_an_account_and_two_paths() {
        let fault = |annotations: &[(&str, &str)]| {
            let fault = read(annotations).0.oidc.fault();
            fault.map(|(key, _)| key)
        };
        assert_eq!(fault(&[SECRET]), Some("auth-oidc-issuer"));
        assert_eq!(fault(&[ISSUER]), Some("auth-oidc-secret"));
        let same = ("logout-path", "/oauth2/callback");
        assert_eq!(
            fault(&[ISSUER, SECRET, same]),
            Some("auth-oidc-logout-path")
        );
        assert_eq!(fault(&[("groups", "admin")]), Some("auth-oidc-issuer"));
    }
}
