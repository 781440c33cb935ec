//! What is taken for a response, and what is not.

use proptest::prelude::*;

use super::super::check::check_response as check;
use super::*;

/// What comes of bytes that come in these parts.
fn read(
    method: &Method,
    parts: &[&[u8]],
) -> Result<Option<(ResponseHead, Vec<u8>)>, ResponseError> {
    let mut reader = HeadReader::default();
    let mut buffer = BytesMut::new();
    let mut headers = HeaderMap::new();
    let mut found = None;
    for part in parts {
        buffer.extend_from_slice(part);
        if found.is_none() {
            found = reader.read(&mut buffer, method, &mut headers)?;
        }
    }
    Ok(found.map(|head| (head, buffer.to_vec())))
}

fn whole(method: &Method, text: &str) -> ResponseHead {
    let found = read(method, &[text.as_bytes()]).unwrap();
    found.unwrap().0
}

fn refused(text: &str) -> ResponseError {
    read(&Method::GET, &[text.as_bytes()]).unwrap_err()
}

#[test]
fn a_head_ends_where_its_body_begins() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A: b c\r\n\r\nhello";
    let (head, rest) = read(&Method::GET, &[text]).unwrap().unwrap();
    assert_eq!(rest, b"hello");
    assert_eq!(head.response.status(), 200);
    assert_eq!(head.response.headers()["x-a"], "b c");
    assert_eq!(head.response.headers().len(), 2);
    assert_eq!(head.body, BodyDecoder::length(5));
    assert!(head.keeps_alive);
    assert!(head.response.extensions().get::<ReasonPhrase>().is_none());
    let head = whole(
        &Method::GET,
        "HTTP/1.1 200 Fine\r\nContent-Length: 0\r\n\r\n",
    );
    let reason = head.response.extensions().get::<ReasonPhrase>().unwrap();
    assert_eq!(reason.as_bytes(), b"Fine");
}

#[test]
fn each_byte_in_a_value_is_one_that_the_http_crate_takes() {
    for byte in 0..=u8::MAX {
        let text = [b"HTTP/1.1 200 OK\r\na: x", &[byte][..], b"y\r\n\r\n"].concat();
        if let Ok(Some((head, _))) = read(&Method::GET, &[&text]) {
            for value in head.response.headers().values() {
                assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok(), "{byte}");
            }
        }
    }
}

#[test]
fn where_a_body_ends_follows_the_rfc() {
    let get = |text| whole(&Method::GET, text);
    for (text, body, keeps_alive) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", BodyDecoder::Over, true),
        (
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
            BodyDecoder::Over,
            true,
        ),
        (
            "HTTP/1.1 101 Switching Protocols\r\n\r\n",
            BodyDecoder::Over,
            false,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n", BodyDecoder::UntilClose, false),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            BodyDecoder::UntilClose,
            false,
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, Chunked\r\n\r\n",
            BodyDecoder::chunked(),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\nContent-Length: 3\r\n\r\n",
            BodyDecoder::Length(3),
            true,
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 3\r\n\r\n",
            BodyDecoder::Length(3),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\n",
            BodyDecoder::Length(3),
            false,
        ),
        (
            "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n",
            BodyDecoder::Length(3),
            true,
        ),
    ] {
        let head = get(text);
        assert_eq!((head.body, head.keeps_alive), (body, keeps_alive), "{text}");
    }
    let head = whole(
        &Method::HEAD,
        "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n",
    );
    assert!(head.body.is_over());
    assert_eq!(head.response.headers()["content-length"], "3");
}

#[test]
fn a_length_beside_chunks_goes_no_further() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n";
    let head = whole(&Method::GET, text);
    assert_eq!(head.body, BodyDecoder::chunked());
    assert!(!head.keeps_alive);
    assert!(!head.response.headers().contains_key("content-length"));
}

#[test]
fn ambiguous_responses_are_refused() {
    for length in ["3, 4", "+3", "-1", "0x3", "3 3", "", "99999999999999999999"] {
        let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        assert!(matches!(refused(&text), ResponseError::Length), "{length}");
    }
    let text = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert!(matches!(refused(text), ResponseError::Coding));
    for text in [
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "SSH-2.0-OpenSSH\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
    ] {
        assert!(
            matches!(refused(text), ResponseError::Malformed(_)),
            "{text}"
        );
    }
}

#[test]
fn interim_responses_end_here_and_are_bounded() {
    let interim = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let text = interim.repeat(2) + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let head = whole(&Method::GET, &text);
    assert_eq!(head.response.status(), 200);
    assert!(!head.response.headers().contains_key("link"));
    let text = interim.repeat(INTERIM_RESPONSES_MAX + 1);
    assert!(matches!(refused(&text), ResponseError::Interim));
}

#[test]
fn a_head_is_bounded() {
    let text = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
    assert!(matches!(refused(&text), ResponseError::TooLong));
    let fields = "A: b\r\n".repeat(FIELDS_MAX + 1);
    let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
    assert!(matches!(refused(&text), ResponseError::Malformed(_)));
}

proptest! {
    /// Values are made without looking at them again.
    #[test]
    fn values_are_what_the_http_crate_takes(value in prop::collection::vec(any::<u8>(), 0..40)) {
        let text = [b"HTTP/1.1 200 OK\r\na:", &value[..], b"\r\n\r\n"].concat();
        if let Ok(Some((head, _))) = read(&Method::GET, &[&text]) {
            for value in head.response.headers().values() {
                prop_assert!(HeaderValue::from_bytes(value.as_bytes()).is_ok());
            }
        }
    }

    #[test]
    fn how_bytes_come_makes_no_difference(
        fields in prop::collection::vec(("[a-zA-Z-]{1,12}", "[ -~]{0,20}"), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let lines = fields.iter().map(|(name, value)| format!("x{name}: {value}\r\n"));
        let lines: String = lines.collect();
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let text = format!("{interim}HTTP/1.1 404 Not Found\r\n{lines}\r\nrest");
        let text = text.as_bytes();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
        let (head, rest) = read(&Method::GET, &parts).unwrap().unwrap();
        prop_assert_eq!(head.response.status(), 404);
        prop_assert_eq!(head.response.headers().len(), fields.len());
        for (name, value) in &fields {
            let name = format!("x{name}");
            let mut values = head.response.headers().get_all(&*name).iter();
            prop_assert!(values.any(|found| found.as_bytes() == value.trim_ascii().as_bytes()));
        }
        prop_assert_eq!(rest, b"rest");
    }

    #[test]
    fn no_part_of_a_response_depends_on_others(
        text in "HTTP/1.1 200 OK\r\n(Transfer-Encoding: chunked|Content-Length: [0-9]{1,2}|A: b)\r\n\r\n(([0-9a-f]{1,2}\r\n)?[a-c]{0,12}\r\n){0,4}0?(\r\n(A: b\r\n)?)?\r\n[a-c]{0,3}",
        cuts in 1_usize..40,
    ) {
        check(text.as_bytes(), cuts);
    }

    #[test]
    fn nothing_panics(text in "(HTTP/1.[01] [0-9]{3} )?[\\x00-\\x7f]{0,80}(\r\n\r\n)?") {
        check(text.as_bytes(), 3);
    }
}
