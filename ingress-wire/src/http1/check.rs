//! What holds for any bytes that may be requests or a response. Property tests and fuzz targets end
//! here.

use bytes::BytesMut;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version};

use super::{
    BodyDecoder, Decoded, FieldLines, FieldRanges, HeadBounds, HeadReader, RequestBodySize,
    RequestContext, RequestHead, RequestReader, write_request,
};

/// Reads a response in one part and in parts of `cuts` bytes.
///
/// # Panics
///
/// Panics if that makes a difference.
pub fn check_response(bytes: &[u8], cuts: usize) {
    let whole = read_response(bytes, bytes.len().max(1));
    let parts = read_response(bytes, cuts.max(1));
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

fn read_response(bytes: &[u8], part: usize) -> Option<Passed> {
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
    assert!(body.is_over() || body == BodyDecoder::UntilClose);
    passed.is_complete = true;
    Some(passed)
}

/// Reads a connection of requests in one part and in parts of `cuts` bytes, and writes each request
/// as it would go to an endpoint.
///
/// # Panics
///
/// Panics if the parts make a difference, or if what is written is read as another request.
pub fn check_requests(bytes: &[u8], cuts: usize) {
    let (whole, _) = read_requests(bytes, bytes.len().max(1));
    let (parts, _) = read_requests(bytes, cuts.max(1));
    // A bad line is refused when the end of its head has come, if it did not come with the first.
    let both = whole.len().min(parts.len());
    assert_eq!(whole[..both], parts[..both], "in parts of {cuts}");
    assert_eq!(whole.len(), parts.len(), "in parts of {cuts}");
}

/// What is passed on of a request.
#[derive(Debug, PartialEq)]
struct PassedRequest {
    method: Method,
    target: Vec<u8>,
    version: Version,
    headers: HeaderMap,
    data: Vec<u8>,
    trailers: HeaderMap,
    is_complete: bool,
}

/// The requests of a connection, and whether something was refused after them.
fn read_requests(bytes: &[u8], part: usize) -> (Vec<PassedRequest>, bool) {
    let mut requests = Vec::new();
    let mut buffer = BytesMut::new();
    let mut parts = bytes.chunks(part);
    let mut reader = RequestReader::default();
    let mut ranges = FieldRanges::default();
    loop {
        let mut headers = HeaderMap::new();
        let head = match reader.read(&buffer, BOUNDS, &mut ranges, &mut headers) {
            Ok(Some(head)) => head,
            Ok(None) => match parts.next() {
                Some(part) => {
                    buffer.extend_from_slice(part);
                    continue;
                }
                None => return (requests, false),
            },
            Err(_) => return (requests, true),
        };
        check_written(&head);
        let _ = buffer.split_to(head.length);
        let mut decoder = head.body.clone();
        let mut passed = passed(&head);
        while !decoder.is_over() {
            match decoder.decode(&mut buffer) {
                Ok(Decoded::Data(data)) => passed.data.extend_from_slice(&data),
                Ok(Decoded::Trailers(trailers)) => passed.trailers = trailers,
                Ok(Decoded::End) => assert!(decoder.is_over()),
                Ok(Decoded::Nothing) => match parts.next() {
                    Some(part) => buffer.extend_from_slice(part),
                    None => break,
                },
                Err(_) => break,
            }
        }
        passed.is_complete = decoder.is_over();
        let goes_on = passed.is_complete;
        requests.push(passed);
        if !goes_on {
            return (requests, false);
        }
    }
}

fn passed(head: &RequestHead) -> PassedRequest {
    let uri = head.request.uri();
    let raw = head.raw_target.as_ref().and_then(|raw| raw.of(uri));
    PassedRequest {
        method: head.request.method().clone(),
        target: raw.map_or_else(|| uri.to_string().into_bytes(), <[u8]>::to_vec),
        version: head.request.version(),
        headers: head.request.headers().clone(),
        data: Vec::new(),
        trailers: HeaderMap::new(),
        is_complete: false,
    }
}

/// Panics if a request is read as another one when it has been written.
fn check_written(head: &RequestHead) {
    let mut parts = Request::new(()).into_parts().0;
    parts.method = head.request.method().clone();
    parts.uri = head.request.uri().clone();
    parts.headers = head.request.headers().clone();
    if parts.method == Method::CONNECT || !parts.headers.contains_key("host") {
        return;
    }
    if let Some(authority) = parts.uri.authority() {
        let authority = HeaderValue::from_str(authority.as_str());
        parts
            .headers
            .insert("host", authority.unwrap_or(HeaderValue::from_static("")));
    }
    let context = RequestContext::<NoLines> {
        lines: None,
        raw_target: head.raw_target.as_ref(),
        spelling: head.spelling.as_ref(),
        body: match head.body.left() {
            Some(0) => RequestBodySize::Empty,
            Some(length) => RequestBodySize::Exactly(length),
            None => RequestBodySize::Unknown,
        },
    };
    let mut text = Vec::new();
    write_request(&parts, &context, &mut text);
    let (mut ranges, mut headers) = (FieldRanges::default(), HeaderMap::new());
    let bounds = HeadBounds {
        bytes_max: usize::MAX,
        ..BOUNDS
    };
    let read = RequestReader::default().read(&text, bounds, &mut ranges, &mut headers);
    let read = read.ok().flatten().expect("what we write we take");
    assert_eq!(read.length, text.len(), "it is one head");
    assert_eq!(read.body, head.body, "it has one end");
    assert_eq!(*read.request.headers(), parts.headers);
    let path = |uri: &http::Uri| uri.path_and_query().cloned();
    assert_eq!(path(read.request.uri()), path(&parts.uri));
}

struct NoLines;

impl FieldLines for NoLines {
    fn length(&self) -> usize {
        0
    }

    fn write(&self, _: &mut Vec<u8>) {}
}

/// Small, so that a fuzzer finds them.
const BOUNDS: HeadBounds = HeadBounds {
    bytes_max: 2048,
    fields_max: 20,
};
