//! Fields after a body (RFC 9110 §6.5), which may say nothing that decides about a message.

use http::{HeaderMap, HeaderName, header};

use super::chunk::push_field;

/// Returns true for a field that has no place after a body: one that says where a message ends, who
/// it is for, who sends it or how it is to be handled (RFC 9110 §6.5.1), or that a proxy writes about
/// a client. A server that merges trailers into its head would take such a field for ours.
pub fn is_forbidden_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    FORBIDDEN.binary_search(&name).is_ok()
        || FORBIDDEN_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
        || name.contains('_')
}

/// Removes fields that have no place after a body.
pub fn remove_forbidden_trailers(trailers: &mut HeaderMap) {
    let names = trailers.keys();
    let forbidden: Vec<_> = names
        .filter(|name| is_forbidden_trailer(name))
        .cloned()
        .collect();
    for name in forbidden {
        trailers.remove(name);
    }
}

/// The names that `Trailer` fields announce (RFC 9110 §6.6.2), but for forbidden ones.
pub fn trailer_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(header::TRAILER).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !is_forbidden_trailer(name))
        .collect()
}

/// Appends the end of a chunked body: the last chunk, and those of the fields after it whose names
/// are allowed.
pub fn write_trailers(trailers: &HeaderMap, allowed: &[HeaderName], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if allowed.contains(name) && !is_forbidden_trailer(name) {
            push_field(name.as_str().as_bytes(), value.as_bytes(), out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Sorted.
const FORBIDDEN: [&str; 46] = [
    "age",
    "allow",
    "authentication-info",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "http2-settings",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "proxy",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
    "x-scheme",
];

const FORBIDDEN_PREFIXES: [&str; 4] = [
    "access-control-",
    "ssl-client-",
    "x-forwarded-",
    "x-original-",
];

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_forbidden_names_are_sorted() {
        assert!(FORBIDDEN.is_sorted());
    }

    #[test]
    fn only_announced_and_harmless_trailers_are_written() {
        let mut headers = HeaderMap::new();
        let announced = "X-Sum, Content-Length, x-forwarded-for, , X-Real-IP, x_sum, a b";
        headers.insert(header::TRAILER, HeaderValue::from_static(announced));
        headers.append(header::TRAILER, HeaderValue::from_static("grpc-status"));
        let names = trailer_names(&headers);
        assert_eq!(names, ["x-sum", "grpc-status"]);
        let mut trailers = HeaderMap::new();
        for name in ["x-sum", "x-other", "authorization", "ssl-client-verify"] {
            trailers.insert(name, HeaderValue::from_static("1"));
        }
        let mut text = Vec::new();
        write_trailers(&trailers, &names, &mut text);
        assert_eq!(text, b"0\r\nx-sum: 1\r\n\r\n");
        let mut text = Vec::new();
        let careless = [header::AUTHORIZATION];
        write_trailers(&trailers, &careless, &mut text);
        assert_eq!(text, b"0\r\n\r\n");
    }
}
