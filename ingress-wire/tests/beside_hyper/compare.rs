//! Compares what two servers make of the same bytes. The test and the fuzz target both end here, so the
//! latter includes this file.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::BytesMut;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use ingress_wire::http1::{
    BodyDecoder, Decoded, FieldRanges, HeadBounds, Persistence, RequestError, RequestReader,
};
use ingress_wire::limits::FIELDS_MAX;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// A request as a server sees it.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    /// `None`: it broke off.
    body: Option<Vec<u8>>,
}

impl Seen {
    fn new<B>(request: &Request<B>, body: Option<Vec<u8>>) -> Self {
        let field = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
            (name.to_string(), value.as_bytes().to_vec())
        };
        Self {
            method: request.method().to_string(),
            target: request.uri().to_string(),
            fields: request.headers().iter().map(field).collect(),
            body,
        }
    }
}

/// What a server makes of a connection.
#[derive(Debug, Default)]
struct Outcome {
    requests: Vec<Seen>,
    /// Whether something was refused after them.
    is_refused: bool,
    /// Why we have refused it.
    error: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
enum Refused {
    Head(RequestError),
    Body,
}

/// All requests that we find in the bytes of a connection.
fn ours(bytes: &[u8]) -> Outcome {
    let bounds = HeadBounds {
        bytes_max: 32 * 1024,
        fields_max: FIELDS_MAX,
    };
    let mut outcome = Outcome::default();
    let mut reader = RequestReader::default();
    let mut ranges = FieldRanges::default();
    let mut buffer = BytesMut::from(bytes);
    loop {
        let mut headers = HeaderMap::new();
        let mut head = match reader.read(&buffer, bounds, &mut ranges, &mut headers) {
            Ok(Some(head)) => head,
            Ok(None) => return outcome,
            Err(error) => {
                outcome.is_refused = true;
                outcome.error = Some(Refused::Head(error));
                return outcome;
            }
        };
        let _ = buffer.split_to(head.length);
        let body = body(&mut head.body, &mut buffer);
        let is_over = matches!(body, Ok(Some(_)));
        if body.is_err() {
            outcome.is_refused = true;
            outcome.error = Some(Refused::Body);
        }
        let seen = Seen::new(&head.request, body.ok().flatten());
        outcome.requests.push(seen);
        if !is_over || head.persistence == Persistence::Close || head.asks.upgrade {
            return outcome;
        }
    }
}

/// A body to its end; `None` if that has not come.
fn body(decoder: &mut BodyDecoder, buffer: &mut BytesMut) -> Result<Option<Vec<u8>>, ()> {
    let mut data = Vec::new();
    loop {
        match decoder.decode(buffer).map_err(drop)? {
            Decoded::Data(more) => data.extend_from_slice(&more),
            Decoded::Trailers(_) | Decoded::End => return Ok(Some(data)),
            Decoded::Nothing => return Ok(None),
        }
    }
}

/// The same by hyper.
fn hypers(bytes: &[u8]) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let answers = runtime.block_on(async {
        let (mut client, far_end) = tokio::io::duplex(1 << 20);
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let seen = Rc::clone(&seen);
        let answer = service_fn(move |request: Request<Incoming>| {
            let seen = Rc::clone(&seen);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.ok();
                let body = body.map(|body| body.to_bytes().to_vec());
                let head = Request::from_parts(head, ());
                seen.borrow_mut().push(Seen::new(&head, body));
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        let served = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(far_end), answer);
        let _ = served.await;
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).await.unwrap();
        answers
    });
    let answers = String::from_utf8_lossy(&answers).into_owned();
    let refusals = [
        StatusCode::BAD_REQUEST,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        StatusCode::URI_TOO_LONG,
    ];
    let is_refused = refusals.iter().any(|status| {
        answers.contains(&format!("HTTP/1.1 {} ", status.as_u16()))
            || answers.contains(&format!("HTTP/1.0 {} ", status.as_u16()))
    });
    Outcome {
        requests: seen.take(),
        is_refused,
        error: None,
    }
}

/// Compares both; panics where they differ in a way that is not listed.
pub(crate) fn compare(bytes: &[u8]) {
    let (ours, hypers) = (ours(bytes), hypers(bytes));
    let text = bytes.escape_ascii();
    for (index, request) in ours.requests.iter().enumerate() {
        let Some(theirs) = hypers.requests.get(index) else {
            // It has no place for some targets.
            assert!(is_beyond_uri(bytes), "hyper refuses what we take: {text}");
            return;
        };
        if is_beyond_uri(bytes) {
            return;
        }
        if request.body.is_none() && theirs.body.is_some() && has_bare_lf(bytes) {
            // RFC 9112 §2.2 lets a server take it in trailers too.
            assert_eq!(request.target, theirs.target, "{text}");
            return;
        }
        assert_eq!(request, theirs, "{text}");
    }
    if ours.requests.len() == hypers.requests.len() {
        return;
    }
    // hyper takes more.
    match ours.error {
        Some(Refused::Head(error)) => assert!(is_stricter(error), "{error}: {text}"),
        Some(Refused::Body) => {}
        // An upgrade that is not agreed to ends our connection.
        None => assert!(has_upgrade(bytes), "we stop, and hyper goes on: {text}"),
    }
}

/// Why we refuse what hyper takes.
fn is_stricter(error: RequestError) -> bool {
    match error {
        // RFC 9112 §2.2 lets a server take it, and others do not.
        RequestError::BareLf
        // nginx refuses them too.
        | RequestError::Method
        | RequestError::Trace
        // A target that is no path, for a method that is not CONNECT; controls.
        | RequestError::Target
        // Left to the service by hyper.
        | RequestError::Host
        | RequestError::HostMismatch
        // Repaired by hyper as RFC 9112 §6.3 allows: the length is dropped, or agrees.
        | RequestError::ContentLength
        // A coding before `chunked`.
        | RequestError::TransferEncoding => true,
        RequestError::Line
        | RequestError::NotHttp
        | RequestError::TargetTooLong
        | RequestError::Version
        | RequestError::Field
        | RequestError::TooManyFields
        | RequestError::TooLong => false,
    }
}

/// Returns true if a line ends with LF alone.
fn has_bare_lf(bytes: &[u8]) -> bool {
    let pairs = [b" ", bytes].concat();
    pairs
        .windows(2)
        .any(|pair| pair[1] == b'\n' && pair[0] != b'\r')
}

/// Returns true if a target has a character that `http::Uri` or httparse refuses.
fn is_beyond_uri(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .any(|byte| matches!(byte, b'<' | b'>' | b'`' | b'#' | 0x80..) || *byte == b'"')
}

fn has_upgrade(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes).to_ascii_lowercase();
    text.contains("upgrade")
}
