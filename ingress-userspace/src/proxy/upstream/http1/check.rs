//! What must be so for any bytes at all that may be a response.
//!
//! The property tests and the fuzz target both end here, so the latter includes this file.

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::decode::{Decoded, Decoder};
use super::head::HeadReader;

/// Panics where it makes a difference in which parts bytes come.
pub(crate) fn check(bytes: &[u8], cuts: usize) {
    let whole = read(bytes, bytes.len().max(1));
    let parts = read(bytes, cuts.max(1));
    assert_eq!(whole, parts, "in parts of {cuts}");
}

/// What is passed on of a response; nothing without a head that is good.
#[derive(Debug, PartialEq)]
struct Passed {
    status: StatusCode,
    headers: HeaderMap,
    keeps_alive: bool,
    data: Vec<u8>,
    trailers: HeaderMap,
    is_complete: bool,
}

fn read(bytes: &[u8], part: usize) -> Option<Passed> {
    let mut reader = HeadReader::default();
    let mut buffer = BytesMut::new();
    let mut parts = bytes.chunks(part);
    let head = loop {
        buffer.extend_from_slice(parts.next()?);
        let mut headers = HeaderMap::new();
        if let Some(head) = reader.read(&mut buffer, &Method::GET, &mut headers).ok()? {
            break head;
        }
    };
    let good = |value: &HeaderValue| HeaderValue::from_bytes(value.as_bytes()).is_ok();
    assert!(head.response.headers().values().all(good));
    let mut passed = Passed {
        status: head.response.status(),
        headers: head.response.headers().clone(),
        keeps_alive: head.keeps_alive,
        data: Vec::new(),
        trailers: HeaderMap::new(),
        is_complete: false,
    };
    let mut body = head.body;
    while !body.is_over() {
        match body.decode(&mut buffer) {
            Ok(Decoded::Data(data)) => {
                assert!(!data.is_empty(), "a piece is a step");
                passed.data.extend_from_slice(&data);
            }
            Ok(Decoded::Trailers(trailers)) => passed.trailers = trailers,
            Ok(Decoded::Nothing) => match parts.next() {
                Some(part) => buffer.extend_from_slice(part),
                None if body.close().is_ok() => {}
                None => return Some(passed),
            },
            Ok(Decoded::End) => assert!(body.is_over()),
            Err(_) => return Some(passed),
        }
    }
    assert!(body.is_over() || body == Decoder::UntilClose);
    passed.is_complete = true;
    Some(passed)
}
