//! Which requests are a browser's that opens a page, and may be sent to a page of the provider.

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether a user looks at the answer. Scripts, images and forms that are sent cannot log in: a redirect would
/// lead them to a page of another origin, and a form would be lost.
///
/// Browsers say so themselves (W3C Fetch Metadata, `Sec-Fetch-Mode`); older ones ask for HTML. Other clients
/// are not browsers.
pub fn is_navigation(method: &str, headers: &HeaderMap) -> bool {
    if !matches!(method, "GET" | "HEAD") {
        return false;
    }
    if let Some(mode) = headers.get("sec-fetch-mode") {
        return mode == "navigate";
    }
    let lines = headers.get_all(ACCEPT).iter();
    let mut ranges = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    ranges.any(|range| {
        let media_type = range.split(|byte| *byte == b';').next();
        media_type.is_some_and(|one| one.trim_ascii().eq_ignore_ascii_case(b"text/html"))
    })
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn pages_are_navigations_and_scripts_are_not() {
        let is = |method: &str, fields: &[(&'static str, &'static str)]| {
            let pairs = fields.iter().map(|(name, value)| {
                let name = HeaderName::from_static(name);
                (name, HeaderValue::from_static(value))
            });
            is_navigation(method, &pairs.collect())
        };
        let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        assert!(is("GET", &[html]));
        assert!(is("HEAD", &[html]));
        assert!(is("GET", &[("accept", "*/*, Text/HTML;q=0.5")]));
        assert!(is("GET", &[("sec-fetch-mode", "navigate")]));
        assert!(!is("POST", &[html, ("sec-fetch-mode", "navigate")]));
        assert!(!is("GET", &[html, ("sec-fetch-mode", "cors")]));
        assert!(!is("GET", &[("sec-fetch-mode", "websocket")]));
        assert!(!is("GET", &[("accept", "*/*")]));
        assert!(!is("GET", &[("accept", "application/json")]));
        assert!(!is("GET", &[]));
    }
}
