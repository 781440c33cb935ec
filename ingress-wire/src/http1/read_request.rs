//! The head of a request, out of the bytes of its connection.
//!
//! Invariant: a head is refused if two readers could disagree about it (RFC 9112 §11.2): about where
//! its lines, its body or the request end, or about the host that it is for.

use bytes::Bytes;
use http::header::HOST;
use http::uri::Scheme;
use http::{HeaderMap, Request, StatusCode, Uri, Version};
use thiserror::Error;

use super::body::BodyDecoder;
use super::connection::{Options, Persistence};
use super::fields::{FieldRanges, next_line};
use super::request_line::{self, RequestLine};
use super::spelling::Spelling;
use super::syntax::{decimal, is_authority};
use super::target::{self, RawTarget};

/// How large a head may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadBounds {
    /// Bytes, from the method to the empty line.
    pub bytes_max: usize,
    /// Fields.
    pub fields_max: usize,
}

/// A request without its body.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target, version and fields.
    pub request: Request<()>,
    /// The target as it came, where the request's URI is an encoded form of it.
    pub raw_target: Option<RawTarget>,
    /// The names of its fields as they came, if any has a capital letter.
    pub spelling: Option<Spelling>,
    /// Where its body ends.
    pub body: BodyDecoder,
    /// Whether another request may follow.
    pub persistence: Persistence,
    /// What the client asks for beside an answer.
    pub asks: Asks,
    /// How many bytes it has taken, with empty lines before it.
    pub length: usize,
}

/// What a client asks for beside an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asks {
    /// An interim response before it sends the body (RFC 9110 §10.1.1).
    pub interim: bool,
    /// Another protocol: there is an `Upgrade` field.
    pub upgrade: bool,
    /// The fields after a response's body (`TE: trailers`).
    pub trailers: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RequestError {
    /// A line ends with LF alone (RFC 9112 §2.2).
    #[error("line does not end with CRLF")]
    BareLf,
    /// The first line has not three parts.
    #[error("request line is malformed")]
    Line,
    /// It is of another protocol, and its sender would not understand an answer.
    #[error("request is not HTTP")]
    NotHttp,
    /// Not made of capital letters, `-` and `_`.
    #[error("invalid method")]
    Method,
    /// TRACE shows a client what a proxy adds for its endpoints.
    #[error("method TRACE is not allowed")]
    Trace,
    /// Not a form that the method takes (RFC 9112 §3.2).
    #[error("invalid request target")]
    Target,
    /// The request line is larger than a head may be, or the target than a URI.
    #[error("request target is too long")]
    TargetTooLong,
    /// Neither HTTP/1.0 nor HTTP/1.1.
    #[error("HTTP version is not supported")]
    Version,
    /// A line is not a field: no name, a space before the colon, a folded line, a control character.
    #[error("malformed header field")]
    Field,
    /// More than the bound.
    #[error("request has too many header fields")]
    TooManyFields,
    /// More bytes than the bound.
    #[error("request head is too long")]
    TooLong,
    /// None in HTTP/1.1, several, or one that is not an authority (RFC 9112 §3.2).
    #[error("invalid Host")]
    Host,
    /// The target names another host than `Host` does.
    #[error("request target and Host name different hosts")]
    HostMismatch,
    /// Not a number, several, or beside `Transfer-Encoding` (RFC 9112 §6.3).
    #[error("invalid Content-Length")]
    ContentLength,
    /// Not exactly `chunked`, several, or in HTTP/1.0 (RFC 9112 §6.1).
    #[error("invalid Transfer-Encoding")]
    TransferEncoding,
}

impl RequestError {
    /// The status to answer with; `None` if the connection is to end without an answer.
    pub fn status(self) -> Option<StatusCode> {
        match self {
            Self::NotHttp => None,
            Self::Trace => Some(StatusCode::METHOD_NOT_ALLOWED),
            Self::TargetTooLong => Some(StatusCode::URI_TOO_LONG),
            Self::TooManyFields | Self::TooLong => {
                Some(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE)
            }
            Self::BareLf
            | Self::Line
            | Self::Method
            | Self::Target
            | Self::Version
            | Self::Field
            | Self::Host
            | Self::HostMismatch
            | Self::ContentLength
            | Self::TransferEncoding => Some(StatusCode::BAD_REQUEST),
        }
    }
}

/// Reads the heads of requests, one after the other.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestReader {
    /// Bytes of an incomplete head that were looked at.
    looked_at: usize,
}

impl RequestReader {
    /// Reads the head at the beginning of `bytes`; `None` if its end has not come yet. The caller
    /// gives the same bytes again then, with more behind them.
    ///
    /// Its fields go into `headers`, which has to be empty; a map that was used before has room.
    ///
    /// # Errors
    ///
    /// Returns an error for a head that is to be refused. Nothing after it may be read.
    pub fn read(
        &mut self,
        bytes: &[u8],
        bounds: HeadBounds,
        ranges: &mut FieldRanges,
        headers: &mut HeaderMap,
    ) -> Result<Option<RequestHead>, RequestError> {
        if self.looked_at > 0 && !has_end(bytes, self.looked_at) {
            self.looked_at = bytes.len();
            return incomplete(bytes, bounds);
        }
        let begin = Self::empty_lines(bytes);
        let head = &bytes[begin..];
        if matches!(head, [b'\n', ..] | [b'\r', _, ..]) {
            return Err(RequestError::BareLf);
        }
        let Some(parsed) = parse(head, bounds, ranges, headers)? else {
            self.looked_at = bytes.len();
            return incomplete(head, bounds);
        };
        self.looked_at = 0;
        Ok(Some(RequestHead {
            length: begin + parsed.length,
            ..parsed
        }))
    }

    /// Bytes of empty lines at the beginning, which a server ignores (RFC 9112 §2.2).
    pub fn empty_lines(bytes: &[u8]) -> usize {
        let lines = bytes.chunks_exact(2).take_while(|line| *line == b"\r\n");
        2 * lines.count()
    }
}

/// The answer to a head whose end has not come.
fn incomplete(head: &[u8], bounds: HeadBounds) -> Result<Option<RequestHead>, RequestError> {
    if head.len() <= bounds.bytes_max {
        return Ok(None);
    }
    let has_line = memchr::memchr(b'\n', head).is_some();
    Err(if has_line {
        RequestError::TooLong
    } else {
        RequestError::TargetTooLong
    })
}

/// Returns true if a head ends in what has come since the last look. Keeps one that comes byte by
/// byte from being parsed as often.
fn has_end(bytes: &[u8], looked_at: usize) -> bool {
    let from = looked_at.saturating_sub(2).min(bytes.len());
    let new = &bytes[from..];
    let is_empty_line = |end: usize| matches!(&new[end + 1..], [b'\n', ..] | [b'\r', b'\n', ..]);
    memchr::memchr_iter(b'\n', new).any(is_empty_line)
}

fn parse(
    bytes: &[u8],
    bounds: HeadBounds,
    ranges: &mut FieldRanges,
    headers: &mut HeaderMap,
) -> Result<Option<RequestHead>, RequestError> {
    let Some((line, fields)) = next_line(bytes, 0)? else {
        return Ok(None);
    };
    if fields > bounds.bytes_max {
        return Err(RequestError::TargetTooLong);
    }
    let line = request_line::read(line)?;
    let mut seen = Seen::default();
    let note = |name: &[u8], value: &[u8]| seen.note(name, value);
    let Some(scanned) = ranges.read(bytes, fields, bounds.fields_max, note)? else {
        return Ok(None);
    };
    if scanned.end > bounds.bytes_max {
        return Err(RequestError::TooLong);
    }
    let body = seen.body(line.version)?;
    let RequestLine {
        method,
        target,
        version,
    } = line;
    let head = Bytes::copy_from_slice(&bytes[..scanned.end]);
    let at = method.as_str().len() + 1;
    let target = head.slice(at..at + target.len());
    let (uri, raw_target) = target::read(&method, &target)?;
    seen.check_hosts(version)?;
    ranges.collect(&head, headers)?;
    check_authority(&uri, headers)?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.version_mut() = version;
    *request.headers_mut() = std::mem::take(headers);
    Ok(Some(RequestHead {
        request,
        raw_target,
        spelling: (scanned.has_capitals).then(|| Spelling::new(head.clone())),
        body,
        persistence: seen.options.persistence(version),
        asks: Asks {
            interim: seen.asks.interim && version == Version::HTTP_11,
            ..seen.asks
        },
        length: scanned.end,
    }))
}

/// What fields say that decide about the message.
#[derive(Debug, Default)]
struct Seen {
    hosts: usize,
    length: Option<u64>,
    is_chunked: bool,
    options: Options,
    asks: Asks,
}

impl Seen {
    /// Looks at a field. Nearly all are told apart by the length of their names.
    #[inline]
    fn note(&mut self, name: &[u8], value: &[u8]) -> Result<(), RequestError> {
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => {
                self.asks.trailers |= accepts_trailers(value);
            }
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.hosts += 1;
                if !is_authority(value) {
                    return Err(RequestError::Host);
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.asks.interim |= value.eq_ignore_ascii_case(b"100-continue");
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.asks.upgrade = true,
            10 if name.eq_ignore_ascii_case(b"connection") => self.options.add(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let is_sole = self.length.is_none();
                let length = decimal(value).filter(|_| is_sole);
                self.length = Some(length.ok_or(RequestError::ContentLength)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.is_chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(RequestError::TransferEncoding);
                }
                self.is_chunked = true;
            }
            _ => {}
        }
        Ok(())
    }

    /// RFC 9112 §6.3, but for what it lets a server repair.
    fn body(&self, version: Version) -> Result<BodyDecoder, RequestError> {
        match (self.is_chunked, self.length) {
            (true, None) if version == Version::HTTP_10 => Err(RequestError::TransferEncoding),
            (true, None) => Ok(BodyDecoder::chunked()),
            (true, Some(_)) => Err(RequestError::ContentLength),
            (false, length) => Ok(BodyDecoder::length(length.unwrap_or(0))),
        }
    }

    /// RFC 9112 §3.2.
    fn check_hosts(&self, version: Version) -> Result<(), RequestError> {
        let is_good = self.hosts == 1 || self.hosts == 0 && version == Version::HTTP_10;
        is_good.then_some(()).ok_or(RequestError::Host)
    }
}

/// A server routes by the authority of a target in absolute form (RFC 9112 §3.2.2), and whoever
/// filters requests before it may go by `Host`: they have to be the same.
fn check_authority(uri: &Uri, headers: &HeaderMap) -> Result<(), RequestError> {
    // The field is looked up only where there is something to compare it with.
    let Some(authority) = uri.authority() else {
        return Ok(());
    };
    let Some(host) = headers.get(HOST) else {
        return Ok(());
    };
    let port: &[u8] = match uri.scheme() {
        Some(scheme) if *scheme == Scheme::HTTP => b":80",
        Some(_) => b":443",
        None => b"",
    };
    let without_port = |text: &[u8]| text.strip_suffix(port).unwrap_or(text).to_ascii_lowercase();
    let is_same = without_port(authority.as_str().as_bytes()) == without_port(host.as_bytes());
    is_same.then_some(()).ok_or(RequestError::HostMismatch)
}

fn accepts_trailers(te: &[u8]) -> bool {
    let mut codings = te.split(|byte| *byte == b',');
    codings.any(|coding| {
        let name = coding.split(|byte| *byte == b';').next();
        name.is_some_and(|name| name.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

#[cfg(test)]
mod tests;
