//! The head of a response over HTTP/1.1, out of the bytes of its connection.
//!
//! Pure. Where the body ends is decided here (RFC 9112 §6.3), and a response that says two things
//! about that is not passed on.

use std::mem::MaybeUninit;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use memchr::memchr_iter;
use thiserror::Error;

use super::body::BodyDecoder;
use super::connection::{Options, Persistence};
use super::spelling::Spelling;
use super::syntax::decimal;
use super::write_response::ReasonPhrase;
use crate::limits::{FIELDS_MAX, HEAD_BYTES_MAX, INTERIM_RESPONSES_MAX};

/// A response's head, and what it says about what follows.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status and fields.
    pub response: Response<()>,
    /// Where its body ends.
    pub body: BodyDecoder,
    /// Whether another request may follow.
    pub keeps_alive: bool,
    /// The names of its fields as they came, if any has a capital letter.
    pub spelling: Option<Spelling>,
}

/// Why a head can't be read.
#[derive(Debug, Error)]
pub enum ResponseError {
    /// It is no HTTP.
    #[error("response head is malformed")]
    Malformed(#[source] httparse::Error),
    /// It has a part that has no place in it.
    #[error("response head has an invalid field")]
    Field,
    /// It has no end within bounds.
    #[error("response head is longer than {HEAD_BYTES_MAX} bytes")]
    TooLong,
    /// Its status is none.
    #[error("invalid response status")]
    Status,
    /// Lengths that differ, or are none.
    #[error("response has conflicting lengths")]
    Length,
    /// A coding that HTTP/1.0 does not have.
    #[error("HTTP/1.0 response has a Transfer-Encoding")]
    Coding,
    /// Interim responses, and never a final one.
    #[error("more than {INTERIM_RESPONSES_MAX} interim responses")]
    Interim,
}

/// Reads the heads of responses, one response after the other: interim ones (RFC 9110 §15.2) end
/// here.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Bytes of an incomplete head that were looked at.
    looked_at: usize,
    interim: usize,
    /// Where names and values of fields are in the head at hand; kept for its room.
    places: Vec<(Range<usize>, Range<usize>)>,
}

impl HeadReader {
    /// Begins with another response.
    pub fn begin(&mut self) {
        self.looked_at = 0;
        self.interim = 0;
    }

    /// Takes the head out of `buffer`, if all of it is there. Its fields go to `headers`, which has
    /// to be empty: a map that was used before has room.
    ///
    /// # Errors
    ///
    /// Returns a [`ResponseError`] for a head that is malformed or too long; the connection is of no use
    /// then.
    pub fn read(
        &mut self,
        buffer: &mut BytesMut,
        method: &Method,
        headers: &mut HeaderMap,
    ) -> Result<Option<ResponseHead>, ResponseError> {
        loop {
            if buffer.is_empty() || self.looked_at > 0 && !has_end(buffer, self.looked_at) {
                self.looked_at = buffer.len();
                return incomplete(buffer);
            }
            let Some((response, seen, spelling)) = parse(buffer, headers, &mut self.places)? else {
                self.looked_at = buffer.len();
                return incomplete(buffer);
            };
            self.looked_at = 0;
            let status = response.status();
            if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
                self.interim += 1;
                if self.interim > INTERIM_RESPONSES_MAX {
                    return Err(ResponseError::Interim);
                }
                headers.clear();
                continue;
            }
            let head = finish(response, &seen, method, std::mem::take(headers))?;
            return Ok(Some(ResponseHead { spelling, ..head }));
        }
    }
}

/// What there is to say when the end of a head is not there.
fn incomplete(buffer: &BytesMut) -> Result<Option<ResponseHead>, ResponseError> {
    if buffer.len() > HEAD_BYTES_MAX {
        return Err(ResponseError::TooLong);
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

/// A response, what its fields say about the message, and their names as they came.
type Parsed = (Response<()>, Seen, Option<Spelling>);

/// What fields say that decide about the message. Noting it as they pass is cheaper than looking them
/// up in the map.
#[derive(Debug, Default)]
struct Seen {
    /// The length that all lines agree on; an error if they do not.
    length: Option<Result<u64, Differ>>,
    /// Whether the last coding is `chunked`, if there is any.
    coding: Option<bool>,
    options: Options,
}

/// Lengths that differ, or are no numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Differ;

impl Seen {
    /// Looks at a field. Nearly all are told apart by the length of their names.
    #[inline]
    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            10 if name.eq_ignore_ascii_case(b"connection") => self.options.add(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                self.length = agreed_length(self.length, value);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                let last = value.rsplit(|byte| *byte == b',').next();
                let is_chunked =
                    |coding: &[u8]| coding.trim_ascii().eq_ignore_ascii_case(b"chunked");
                self.coding = Some(last.is_some_and(is_chunked));
            }
            _ => {}
        }
    }
}

/// The length of the lines so far and of another (RFC 9110 §8.6).
fn agreed_length(before: Option<Result<u64, Differ>>, line: &[u8]) -> Option<Result<u64, Differ>> {
    line.split(|byte| *byte == b',')
        .fold(before, |before, text| {
            let said = decimal(text.trim_ascii()).ok_or(Differ);
            match before {
                Some(before) if before != said => Some(Err(Differ)),
                _ => Some(said),
            }
        })
}

/// Cuts a head out of the buffer. Values of fields are parts of what is cut out.
fn parse(
    buffer: &mut BytesMut,
    headers: &mut HeaderMap,
    places: &mut Vec<(Range<usize>, Range<usize>)>,
) -> Result<Option<Parsed>, ResponseError> {
    let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut parsed, buffer, &mut fields)
        .map_err(ResponseError::Malformed)?;
    let httparse::Status::Complete(length) = status else {
        return Ok(None);
    };
    if length > HEAD_BYTES_MAX {
        return Err(ResponseError::TooLong);
    }
    let mut response = Response::new(());
    let code = parsed.code.unwrap_or_default();
    *response.status_mut() = StatusCode::from_u16(code).map_err(|_| ResponseError::Status)?;
    *response.version_mut() = match parsed.version {
        Some(0) => Version::HTTP_10,
        _ => Version::HTTP_11,
    };
    let reason = parsed.reason.unwrap_or_default();
    if !reason.is_empty()
        && response.status().canonical_reason() != Some(reason)
        && let Some(reason) = ReasonPhrase::new(reason.as_bytes())
    {
        response.extensions_mut().insert(reason);
    }
    let start = buffer.as_ptr().addr();
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr() - start;
        from..from + part.len()
    };
    places.clear();
    let fields = parsed.headers.iter();
    places.extend(fields.map(|field| (place(field.name.as_bytes()), place(field.value))));
    let head: Bytes = buffer.split_to(length).freeze();
    let mut seen = Seen::default();
    let mut has_capitals = false;
    headers.reserve(places.len());
    for (name, value) in places.drain(..) {
        let name = &head[name];
        seen.note(name, &head[value.clone()]);
        has_capitals = has_capitals || name.iter().any(u8::is_ascii_uppercase);
        let name = HeaderName::from_bytes(name).map_err(|_| ResponseError::Field)?;
        // SAFETY: httparse has taken no control character but tabs for a part of it.
        let value = unsafe { HeaderValue::from_maybe_shared_unchecked(head.slice(value)) };
        headers.append(name, value);
    }
    let spelling = has_capitals.then(|| Spelling::new(head));
    Ok(Some((response, seen, spelling)))
}

/// RFC 9112 §6.3, in its order.
fn finish(
    mut response: Response<()>,
    seen: &Seen,
    method: &Method,
    mut headers: HeaderMap,
) -> Result<ResponseHead, ResponseError> {
    let status = response.status();
    let version = response.version();
    let length = seen.length.transpose();
    let length = length.map_err(|Differ| ResponseError::Length)?;
    let mut keeps_alive = seen.options.persistence(version) == Persistence::KeepAlive;
    let has_none = *method == Method::HEAD
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if status == StatusCode::SWITCHING_PROTOCOLS {
        keeps_alive = false;
        BodyDecoder::length(0)
    } else if has_none {
        BodyDecoder::length(0)
    } else if let Some(is_chunked) = seen.coding {
        if version == Version::HTTP_10 {
            return Err(ResponseError::Coding);
        }
        // Who sends both has a mistake or is after one: what counts is the coding, and nobody gets
        // to see the length.
        if headers.remove(CONTENT_LENGTH).is_some() {
            keeps_alive = false;
        }
        if is_chunked {
            BodyDecoder::chunked()
        } else {
            BodyDecoder::UntilClose
        }
    } else {
        length.map_or(BodyDecoder::UntilClose, BodyDecoder::length)
    };
    if body == BodyDecoder::UntilClose {
        keeps_alive = false;
    }
    *response.headers_mut() = headers;
    Ok(ResponseHead {
        response,
        body,
        keeps_alive,
        spelling: None,
    })
}

/// The length that all lines of a head agree on.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, ResponseError> {
    let lines = headers.get_all(CONTENT_LENGTH).iter();
    let length = lines.fold(None, |before, line| agreed_length(before, line.as_bytes()));
    length.transpose().map_err(|Differ| ResponseError::Length)
}

#[cfg(test)]
mod tests;
