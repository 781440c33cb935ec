//! The first line of a request (RFC 9112 §3), and the preface of HTTP/2 that may stand in its place.

use http::{Method, Version};

use super::read_request::RequestError;
use super::syntax::{is_method, is_target};
use crate::limits::TARGET_BYTES_MAX;

/// The parts of a request line; `target` is the text between its two spaces.
#[derive(Debug)]
pub(super) struct RequestLine<'a> {
    pub(super) method: Method,
    pub(super) target: &'a [u8],
    pub(super) version: Version,
}

/// Reads a line, without its CRLF.
pub(super) fn read(line: &[u8]) -> Result<RequestLine<'_>, RequestError> {
    let (method, rest) = split_at_space(line).ok_or(RequestError::Line)?;
    if !is_method(method) {
        return Err(refuse(line, RequestError::Method));
    }
    let (target, version) = split_at_space(rest).ok_or(RequestError::Line)?;
    let version = match version {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return Err(refuse(line, RequestError::Version)),
    };
    if target.is_empty() || !is_target(target) {
        return Err(RequestError::Target);
    }
    if target.len() > TARGET_BYTES_MAX {
        return Err(RequestError::TargetTooLong);
    }
    let method = Method::from_bytes(method).map_err(|_| RequestError::Method)?;
    if method == Method::TRACE {
        return Err(RequestError::Trace);
    }
    Ok(RequestLine {
        method,
        target,
        version,
    })
}

fn split_at_space(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr::memchr(b' ', text)?;
    Some((&text[..end], &text[end + 1..]))
}

/// A line of at least three words whose last is no version of HTTP belongs to another protocol. Its
/// sender would not understand an answer; a client that means HTTP/2 and gets the preface wrong must
/// not get one (RFC 9113 §3.4).
fn refuse(line: &[u8], otherwise: RequestError) -> RequestError {
    let mut words = line.rsplit(|byte| *byte == b' ');
    let is_version = words.next().is_some_and(|word| word.starts_with(b"HTTP/"));
    if !is_version && words.count() >= 2 {
        return RequestError::NotHttp;
    }
    otherwise
}

/// Returns true if a connection that begins with `bytes` speaks HTTP/2 with prior knowledge
/// (RFC 9113 §3.4).
pub fn is_preface(bytes: &[u8]) -> bool {
    bytes.starts_with(PREFACE)
}

/// Returns true if `bytes` is the beginning of the preface of HTTP/2, and the rest has not come yet.
pub fn may_become_preface(bytes: &[u8]) -> bool {
    bytes.len() < PREFACE.len() && PREFACE.starts_with(bytes)
}

/// What an HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_three_parts() {
        let line = read(b"PROPFIND /a?b=\"<>`|^{}\\\xff HTTP/1.0").unwrap();
        assert_eq!(line.method.as_str(), "PROPFIND");
        assert_eq!(line.target, b"/a?b=\"<>`|^{}\\\xff");
        assert_eq!(line.version, Version::HTTP_10);
    }

    #[test]
    fn other_lines_are_refused() {
        for (line, error) in [
            (&b""[..], RequestError::Line),
            (b"GET", RequestError::Line),
            (b"GET /", RequestError::Line),
            (b"GET  HTTP/1.1", RequestError::Target),
            (b"GET  / HTTP/1.1", RequestError::Version),
            (b"GET / x HTTP/1.1", RequestError::Version),
            (b"GET / HTTP/1.1 ", RequestError::NotHttp),
            (b"GET\t/ HTTP/1.1", RequestError::Method),
            (b"GET /\0 HTTP/1.1", RequestError::Target),
            (b"GET /\x7f HTTP/1.1", RequestError::Target),
            (b"GET / HTTP/1.2", RequestError::Version),
            (b"GET / HTTP/2.0", RequestError::Version),
            (b"GET / http/1.1", RequestError::NotHttp),
            (b"GET / HTTP/1.10", RequestError::Version),
            (b"get / HTTP/1.1", RequestError::Method),
            (b"Get / HTTP/1.1", RequestError::Method),
            (b"G@T / HTTP/1.1", RequestError::Method),
            (b" GET / HTTP/1.1", RequestError::Method),
            (b"TRACE / HTTP/1.1", RequestError::Trace),
            (b"INVALID CONNECTION PREFACE", RequestError::NotHttp),
        ] {
            assert_eq!(read(line).unwrap_err(), error, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn a_preface_is_known_by_all_of_its_bytes() {
        assert!(is_preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0"));
        assert!(may_become_preface(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"));
        assert!(may_become_preface(b"P"));
        assert!(!may_become_preface(b"PO"));
        assert!(!may_become_preface(PREFACE));
    }
}
