//! Decides how a request to the dashboard is answered. Pure.

use http::{HeaderMap, Method, StatusCode};

use super::hosts::{AllowedHosts, is_same_origin};

/// The way in which a request is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked<'a> {
    /// The page itself.
    Page,
    /// A file of the page, below the version of the assets.
    Asset(&'a str),
    /// A session.
    LogIn,
    /// Data, below `/api/v1/`: only with a session.
    Data(&'a str),
}

/// Why a request is refused before anything is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Its `Host` is not an allowed name.
    UnknownHost,
    /// Only GET, and POST for a session, are allowed.
    Method,
    /// Another site sent it.
    OtherOrigin,
    /// There is no such path.
    NotFound,
}

impl Refusal {
    /// The status of the answer.
    pub(super) fn status(self) -> StatusCode {
        match self {
            Self::UnknownHost | Self::OtherOrigin => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }

    /// The answer for people.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::UnknownHost => "this host is not allowed: see --dashboard-host\n",
            Self::Method => "only GET is allowed, and POST for /session\n",
            Self::OtherOrigin => "another site sent this request\n",
            Self::NotFound => "not found\n",
        }
    }
}

/// Reads a request.
///
/// # Errors
///
/// The first reason to refuse it.
pub(super) fn read<'a>(
    hosts: &AllowedHosts,
    method: &Method,
    path: &'a str,
    fields: &HeaderMap,
) -> Result<Asked<'a>, Refusal> {
    if !hosts.allow(fields) {
        return Err(Refusal::UnknownHost);
    }
    let is_login = path == LOGIN;
    let is_method_well = if is_login {
        method == Method::POST
    } else {
        method == Method::GET
    };
    if !is_method_well {
        return Err(Refusal::Method);
    }
    if is_login {
        return if is_same_origin(fields) {
            Ok(Asked::LogIn)
        } else {
            Err(Refusal::OtherOrigin)
        };
    }
    if path == "/" {
        return Ok(Asked::Page);
    }
    if let Some(resource) = path.strip_prefix(API) {
        return Ok(Asked::Data(resource));
    }
    let asset = path.strip_prefix("/assets/").ok_or(Refusal::NotFound)?;
    Ok(Asked::Asset(asset))
}

const LOGIN: &str = "/session";
const API: &str = "/api/v1/";

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn asked<'a>(
        method: &Method,
        path: &'a str,
        more: &[(&'static str, &'static str)],
    ) -> Result<Asked<'a>, Refusal> {
        let hosts = AllowedHosts::new("127.0.0.1:7".parse().unwrap(), &[]);
        let mut fields = HeaderMap::new();
        fields.insert("host", HeaderValue::from_static("localhost:7"));
        for (name, value) in more {
            fields.insert(*name, HeaderValue::from_static(value));
        }
        read(&hosts, method, path, &fields)
    }

    #[test]
    fn paths_are_told_apart() {
        let get = |path| asked(&Method::GET, path, &[]);
        assert_eq!(get("/"), Ok(Asked::Page));
        assert_eq!(get("/assets/1/app.js"), Ok(Asked::Asset("1/app.js")));
        assert_eq!(get("/api/v1/routes"), Ok(Asked::Data("routes")));
        assert_eq!(get("/favicon.ico"), Err(Refusal::NotFound));
        assert_eq!(get("/session"), Err(Refusal::Method));
    }

    #[test]
    fn only_the_page_itself_asks_for_a_session() {
        let post = |more| asked(&Method::POST, "/session", more);
        assert_eq!(post(&[("origin", "http://localhost:7")]), Ok(Asked::LogIn));
        assert_eq!(
            post(&[("origin", "http://evil.test")]),
            Err(Refusal::OtherOrigin)
        );
        assert_eq!(post(&[]), Err(Refusal::OtherOrigin));
        let evil = [("host", "evil.test"), ("origin", "http://evil.test")];
        assert_eq!(post(&evil), Err(Refusal::UnknownHost));
    }

    proptest! {
        /// No method but GET reaches a page, a file or data.
        #[test]
        fn nothing_but_get_reads(method in "[A-Z]{1,8}", path in "/[a-z0-9/]{0,16}") {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let outcome = asked(&method, &path, &[]);
            if method != Method::GET && path != LOGIN {
                prop_assert_eq!(outcome, Err(Refusal::Method));
            }
        }
    }
}
