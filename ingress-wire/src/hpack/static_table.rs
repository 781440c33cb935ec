//! The static table (RFC 7541 Appendix A): fields that have an index before any was said.

use bytes::Bytes;
use http::StatusCode;
use http::header::{self, HeaderName, HeaderValue};

use super::field::{Entry, Pseudo};

/// The fields, of which the first has index 1.
pub(super) static STATIC_ENTRIES: [Entry; 61] = [
    pseudo(Pseudo::Authority, ""),
    pseudo(Pseudo::Method, "GET"),
    pseudo(Pseudo::Method, "POST"),
    pseudo(Pseudo::Path, "/"),
    pseudo(Pseudo::Path, "/index.html"),
    pseudo(Pseudo::Scheme, "http"),
    pseudo(Pseudo::Scheme, "https"),
    pseudo(Pseudo::Status, "200"),
    pseudo(Pseudo::Status, "204"),
    pseudo(Pseudo::Status, "206"),
    pseudo(Pseudo::Status, "304"),
    pseudo(Pseudo::Status, "400"),
    pseudo(Pseudo::Status, "404"),
    pseudo(Pseudo::Status, "500"),
    header(header::ACCEPT_CHARSET, ""),
    header(header::ACCEPT_ENCODING, "gzip, deflate"),
    header(header::ACCEPT_LANGUAGE, ""),
    header(header::ACCEPT_RANGES, ""),
    header(header::ACCEPT, ""),
    header(header::ACCESS_CONTROL_ALLOW_ORIGIN, ""),
    header(header::AGE, ""),
    header(header::ALLOW, ""),
    header(header::AUTHORIZATION, ""),
    header(header::CACHE_CONTROL, ""),
    header(header::CONTENT_DISPOSITION, ""),
    header(header::CONTENT_ENCODING, ""),
    header(header::CONTENT_LANGUAGE, ""),
    header(header::CONTENT_LENGTH, ""),
    header(header::CONTENT_LOCATION, ""),
    header(header::CONTENT_RANGE, ""),
    header(header::CONTENT_TYPE, ""),
    header(header::COOKIE, ""),
    header(header::DATE, ""),
    header(header::ETAG, ""),
    header(header::EXPECT, ""),
    header(header::EXPIRES, ""),
    header(header::FROM, ""),
    header(header::HOST, ""),
    header(header::IF_MATCH, ""),
    header(header::IF_MODIFIED_SINCE, ""),
    header(header::IF_NONE_MATCH, ""),
    header(header::IF_RANGE, ""),
    header(header::IF_UNMODIFIED_SINCE, ""),
    header(header::LAST_MODIFIED, ""),
    header(header::LINK, ""),
    header(header::LOCATION, ""),
    header(header::MAX_FORWARDS, ""),
    header(header::PROXY_AUTHENTICATE, ""),
    header(header::PROXY_AUTHORIZATION, ""),
    header(header::RANGE, ""),
    header(header::REFERER, ""),
    header(header::REFRESH, ""),
    header(header::RETRY_AFTER, ""),
    header(header::SERVER, ""),
    header(header::SET_COOKIE, ""),
    header(header::STRICT_TRANSPORT_SECURITY, ""),
    header(header::TRANSFER_ENCODING, ""),
    header(header::USER_AGENT, ""),
    header(header::VARY, ""),
    header(header::VIA, ""),
    header(header::WWW_AUTHENTICATE, ""),
];

/// An index of `:status`.
pub(super) const STATUS_INDEX: u8 = 8;

/// The index of a status' field, if the table has it.
pub(super) fn status_index(status: StatusCode) -> Option<u8> {
    let index = match status {
        StatusCode::OK => 8,
        StatusCode::NO_CONTENT => 9,
        StatusCode::PARTIAL_CONTENT => 10,
        StatusCode::NOT_MODIFIED => 11,
        StatusCode::BAD_REQUEST => 12,
        StatusCode::NOT_FOUND => 13,
        StatusCode::INTERNAL_SERVER_ERROR => 14,
        _ => return None,
    };
    Some(index)
}

/// The index of the field with this name, if the table has one. Lengths come first: they tell
/// nearly all names apart.
pub(super) fn name_index(name: &HeaderName) -> Option<u8> {
    let name = name.as_str();
    let index = match (name.len(), name) {
        (3, "age") => 21,
        (3, "via") => 60,
        (4, "date") => 33,
        (4, "etag") => 34,
        (4, "from") => 37,
        (4, "host") => 38,
        (4, "link") => 45,
        (4, "vary") => 59,
        (5, "allow") => 22,
        (5, "range") => 50,
        (6, "accept") => 19,
        (6, "cookie") => 32,
        (6, "expect") => 35,
        (6, "server") => 54,
        (7, "expires") => 36,
        (7, "referer") => 51,
        (7, "refresh") => 52,
        (8, "if-match") => 39,
        (8, "if-range") => 42,
        (8, "location") => 46,
        (10, "set-cookie") => 55,
        (10, "user-agent") => 58,
        (11, "retry-after") => 53,
        (12, "content-type") => 31,
        (12, "max-forwards") => 47,
        (13, "accept-ranges") => 18,
        (13, "authorization") => 23,
        (13, "cache-control") => 24,
        (13, "content-range") => 30,
        (13, "if-none-match") => 41,
        (13, "last-modified") => 44,
        (14, "accept-charset") => 15,
        (14, "content-length") => 28,
        (15, "accept-encoding") => 16,
        (15, "accept-language") => 17,
        (16, "content-encoding") => 26,
        (16, "content-language") => 27,
        (16, "content-location") => 29,
        (16, "www-authenticate") => 61,
        (17, "if-modified-since") => 40,
        (17, "transfer-encoding") => 57,
        (18, "proxy-authenticate") => 48,
        (19, "content-disposition") => 25,
        (19, "if-unmodified-since") => 43,
        (19, "proxy-authorization") => 49,
        (25, "strict-transport-security") => 56,
        (27, "access-control-allow-origin") => 20,
        _ => return None,
    };
    Some(index)
}

const fn pseudo(name: Pseudo, value: &'static str) -> Entry {
    Entry::Pseudo(name, Bytes::from_static(value.as_bytes()))
}

const fn header(name: HeaderName, value: &'static str) -> Entry {
    Entry::Header(name, HeaderValue::from_static(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_are_those_of_the_table() {
        for (place, entry) in STATIC_ENTRIES.iter().enumerate() {
            let index = Some(u8::try_from(place + 1).unwrap());
            match entry {
                Entry::Header(name, _) => assert_eq!(name_index(name), index, "{name}"),
                Entry::Pseudo(Pseudo::Status, value) => {
                    let status = StatusCode::from_bytes(value).unwrap();
                    assert_eq!(status_index(status), index, "{status}");
                }
                Entry::Pseudo(..) => {}
                Entry::Malformed { .. } => panic!("{entry:?}"),
            }
        }
    }

    #[test]
    fn other_names_and_statuses_have_none() {
        for name in [
            "x",
            "dates",
            "x-length-of-it",
            "keep-alive",
            "content-lengti",
        ] {
            assert_eq!(name_index(&HeaderName::from_static(name)), None, "{name}");
        }
        assert_eq!(status_index(StatusCode::CREATED), None);
    }
}
