//! Heads over HTTP/1.1 to and from an endpoint: a request as bytes, bytes as a response.
//!
//! Pure. What says where a body ends is decided here, in both directions (RFC 9112 §6): of a request
//! by what we know of its body, of a response by its fields, and a response that says two things
//! about it is not passed on.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version, request};
use hyper::ext::ReasonPhrase;
use memchr::memchr_iter;
use thiserror::Error;

use super::decode::Decoder;
use crate::proxy::limits::{FIELDS_MAX, HEAD_BYTES_MAX, INTERIM_RESPONSES_MAX};
use crate::proxy::lines::Lines;

/// How an endpoint is told where a request body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is none.
    None,
    Length(u64),
    /// By chunks; trailer fields of these names may follow.
    Chunked {
        trailers: Vec<HeaderName>,
    },
}

/// What is known about a request body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    None,
    Exactly(u64),
    Unknown,
}

/// Appends a request's head, with `lines` among its fields. Its target is written as path and query
/// alone.
pub(super) fn encode(
    head: &request::Parts,
    lines: Option<&Lines>,
    size: Size,
    out: &mut Vec<u8>,
) -> Framing {
    let headers = &head.headers;
    let framing = framing(headers, size);
    let method = head.method.as_str();
    let target = head.uri.path_and_query();
    let target = target.map_or("/", |target| target.as_str());
    let length = |(name, value): (&HeaderName, &HeaderValue)| name.as_str().len() + value.len() + 4;
    let fields: usize = headers.iter().map(length).sum();
    let more = lines.map_or(0, Lines::length);
    out.reserve(method.len() + target.len() + fields + more + ROOM);
    for part in [method, " ", target, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    let is_chunked = matches!(framing, Framing::Chunked { .. });
    for (name, value) in headers {
        let is_framing = *name == TRANSFER_ENCODING || is_chunked && *name == CONTENT_LENGTH;
        if !is_framing {
            push_field(name, value, out);
        }
    }
    if let Some(lines) = lines {
        lines.write(out);
    }
    match &framing {
        Framing::Chunked { .. } => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) if !headers.contains_key(CONTENT_LENGTH) => {
            push_field(&CONTENT_LENGTH, &HeaderValue::from(*length), out);
        }
        Framing::Length(_) | Framing::None => {}
    }
    out.extend_from_slice(b"\r\n");
    framing
}

fn framing(headers: &HeaderMap, size: Size) -> Framing {
    let said = || content_length(headers).ok().flatten();
    match size {
        Size::None => Framing::None,
        Size::Exactly(length) => Framing::Length(said().unwrap_or(length)),
        Size::Unknown => match said() {
            Some(length) => Framing::Length(length),
            None => Framing::Chunked {
                trailers: trailer_names(headers),
            },
        },
    }
}

/// The fields that a `Trailer` field announces (RFC 9110 §6.6.2), but for those that say where a
/// message ends or who it is for.
fn trailer_names(headers: &HeaderMap) -> Vec<HeaderName> {
    let lines = headers.get_all(TRAILER).iter();
    lines
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .filter(|name| !FRAMING_FIELDS.contains(&name.as_str()))
        .collect()
}

/// Appends the end of a chunked body.
pub(super) fn encode_trailers(trailers: &HeaderMap, allowed: &[HeaderName], out: &mut Vec<u8>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers {
        if allowed.contains(name) {
            push_field(name, value, out);
        }
    }
    out.extend_from_slice(b"\r\n");
}

fn push_field(name: &HeaderName, value: &HeaderValue, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_str().as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// A response's head, and what it says about what follows.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) response: Response<()>,
    pub(super) body: Decoder,
    /// Whether another request may follow.
    pub(super) keeps_alive: bool,
}

/// Why a head can't be read.
#[derive(Debug, Error)]
pub(in super::super) enum BadHead {
    /// It is no HTTP.
    #[error("response head is malformed")]
    Malformed(#[source] httparse::Error),
    /// It has a part that has no place in it.
    #[error("response head has a field that is none")]
    Field,
    /// It has no end within bounds.
    #[error("response head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// Its status is none.
    #[error("response status is none")]
    Status,
    /// Lengths that differ, or are none.
    #[error("response says in several ways how long it is")]
    Length,
    /// A coding that HTTP/1.0 does not have.
    #[error("response has a transfer coding, and is of HTTP/1.0")]
    Coding,
    /// Interim responses, and never a final one.
    #[error("more than {INTERIM_RESPONSES_MAX} interim responses")]
    Interim,
}

/// Reads the heads of one response: interim ones (RFC 9110 §15.2) end here.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    /// Bytes of an incomplete head that were looked at.
    looked_at: usize,
    interim: usize,
}

impl HeadReader {
    /// Takes the head out of `buffer`, if all of it is there. Its fields go to `headers`, which has
    /// to be empty: a map that was used before has room.
    pub(super) fn read(
        &mut self,
        buffer: &mut BytesMut,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<Option<Head>, BadHead> {
        loop {
            if buffer.is_empty() || self.looked_at > 0 && !has_end(buffer, self.looked_at) {
                self.looked_at = buffer.len();
                return incomplete(buffer);
            }
            let Some(response) = parse(buffer, headers)? else {
                self.looked_at = buffer.len();
                return incomplete(buffer);
            };
            self.looked_at = 0;
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += 1;
                if self.interim > INTERIM_RESPONSES_MAX {
                    return Err(BadHead::Interim);
                }
                headers.clear();
                continue;
            }
            return finish(response, method, std::mem::take(headers)).map(Some);
        }
    }
}

/// What there is to say when the end of a head is not there.
fn incomplete(buffer: &BytesMut) -> Result<Option<Head>, BadHead> {
    if buffer.len() > HEAD_BYTES_MAX {
        return Err(BadHead::TooLong);
    }
    Ok(None)
}

/// Whether a head ends in what has come since the last look. Keeps one that comes byte by byte
/// from being parsed as often.
fn has_end(buffer: &[u8], looked_at: usize) -> bool {
    let from = looked_at.saturating_sub(2).min(buffer.len());
    let new = &buffer[from..];
    let is_empty_line = |end: usize| matches!(&new[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]);
    memchr_iter(b'\n', new).any(is_empty_line)
}

/// Cuts a head out of the buffer. Values of fields are parts of what is cut out.
fn parse(buffer: &mut BytesMut, headers: &mut HeaderMap) -> Result<Option<Response<()>>, BadHead> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut places: [(Range<usize>, Range<usize>); FIELDS_MAX] =
        [const { (0..0, 0..0) }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields)
        .map_err(BadHead::Malformed)?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    if length > HEAD_BYTES_MAX {
        return Err(BadHead::TooLong);
    }
    let mut response = Response::new(());
    let code = parsed.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| BadHead::Status)?;
    *response.version_mut() = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let reason = parsed.reason.unwrap_or_default();
    if !reason.is_empty()
        && response.status().canonical_reason() != Some(reason)
        && let Ok(reason) = ReasonPhrase::try_from(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    let start = buffer.as_ptr().addr();
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr() - start;
        from..from + part.len()
    };
    let count = parsed.headers.len();
    for (places, field) in places.iter_mut().zip(&*parsed.headers) {
        *places = (place(field.name.as_bytes()), place(field.value));
    }
    let head: Bytes = buffer.split_to(length).freeze();
    headers.reserve(count);
    for (name, value) in places.into_iter().take(count) {
        let name = HeaderName::from_bytes(&head[name]).map_err(|_| BadHead::Field)?;
        let value = HeaderValue::from_maybe_shared(head.slice(value));
        headers.append(name, value.map_err(|_| BadHead::Field)?);
    }
    Ok(Some(response))
}

/// RFC 9112 §6.3, in its order.
fn finish(
    mut response: Response<()>,
    method: &Method,
    mut headers: HeaderMap,
) -> Result<Head, BadHead> {
    let status = response.status();
    let version = response.version();
    let length = content_length(&headers)?;
    let mut keeps_alive = keeps_alive(version, &headers);
    let has_none = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if status == StatusCode::SWITCHING_PROTOCOLS {
        keeps_alive = false;
        Decoder::length(0)
    } else if has_none {
        Decoder::length(0)
    } else if headers.contains_key(TRANSFER_ENCODING) {
        if version == Version::HTTP_10 {
            return Err(BadHead::Coding);
        }
        // Who sends both has a mistake or is after one: what counts is the coding, and nobody gets
        // to see the length.
        if headers.remove(CONTENT_LENGTH).is_some() {
            keeps_alive = false;
        }
        if is_chunked(&headers) {
            Decoder::chunked()
        } else {
            Decoder::UntilClose
        }
    } else {
        length.map_or(Decoder::UntilClose, Decoder::length)
    };
    if body == Decoder::UntilClose {
        keeps_alive = false;
    }
    *response.headers_mut() = headers;
    Ok(Head {
        response,
        body,
        keeps_alive,
    })
}

fn keeps_alive(version: Version, headers: &HeaderMap) -> bool {
    let mut options = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    if options.peek().is_none() {
        return version == Version::HTTP_11;
    }
    let (mut closes, mut stays) = (false, version == Version::HTTP_11);
    for option in options {
        closes |= option.eq_ignore_ascii_case(b"close");
        stays |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    stays && !closes
}

/// Whether the last coding is `chunked`.
fn is_chunked(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let last = lines.next_back().map(HeaderValue::as_bytes);
    let last = last.unwrap_or_default();
    let coding = last.rsplit(|byte| *byte == b',').next();
    coding.is_some_and(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"chunked"))
}

/// The length that all lines agree on (RFC 9110 §8.6).
fn content_length(headers: &HeaderMap) -> Result<Option<u64>, BadHead> {
    let mut length = None;
    for line in headers.get_all(CONTENT_LENGTH) {
        for text in line.as_bytes().split(|byte| *byte == b',') {
            let said = digits(text.trim_ascii()).ok_or(BadHead::Length)?;
            if length.replace(said).is_some_and(|before| before != said) {
                return Err(BadHead::Length);
            }
        }
    }
    Ok(length)
}

fn digits(text: &[u8]) -> Option<u64> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then_some(())?;
    str::from_utf8(text).ok()?.parse().ok()
}

/// Fields that may not come after a body.
const FRAMING_FIELDS: [&str; 6] = [
    "content-length",
    "transfer-encoding",
    "trailer",
    "te",
    "host",
    "connection",
];

/// For what a head has beside its method, target and fields.
const ROOM: usize = 96;

#[cfg(test)]
mod tests;
