//! The head of a response, as bytes.
//!
//! The end of its body is decided here by what is known of the body, of the request and of the
//! client's version, and said once (RFC 9112 §6).

use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, response};

use super::chunk::push_field;
use super::connection::Persistence;
use super::spelling::Spelling;
use super::trailers::trailer_names;

/// What a response answers, and what is known about it beside its head.
#[derive(Clone, Copy, Debug)]
pub struct ResponseContext<'a> {
    /// The version of the request.
    pub version: Version,
    /// Whether the request was a HEAD: the response has no body then, and may have a length.
    pub is_head: bool,
    /// Whether the connection is to go on after it.
    pub persistence: Persistence,
    /// Whether the client takes fields after the body.
    pub accepts_trailers: bool,
    /// How long the body is.
    pub body: ResponseBodySize,
    /// The names of the fields as an endpoint has written them.
    pub spelling: Option<&'a Spelling>,
}

/// What is known about the body of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBodySize {
    /// There is none.
    Empty,
    /// It has this many bytes.
    Exactly(u64),
    /// Its end is known when it comes.
    Unknown,
}

/// How a client is told where a body ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// By its length; this many bytes are still to be written.
    Length(u64),
    /// By chunks; fields of these names may follow.
    Chunked {
        /// The names.
        trailers: Vec<HeaderName>,
    },
    /// By the end of the connection.
    UntilClose,
}

/// The words after a status, where they are not those of its code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReasonPhrase(HeaderValue);

impl ReasonPhrase {
    /// Takes the words if they may stand in a status line.
    pub fn new(words: &[u8]) -> Option<Self> {
        HeaderValue::from_bytes(words).ok().map(Self)
    }

    /// The words.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

/// Appends a response's head to `out`; returns how its body is to be written, and whether the
/// connection goes on after it. `date` is asked where the head has none (RFC 9110 §6.6.1).
pub fn write_response(
    head: &response::Parts,
    context: &ResponseContext<'_>,
    date: impl FnOnce() -> HeaderValue,
    out: &mut Vec<u8>,
) -> (Framing, Persistence) {
    let status = head.status;
    let facts = Facts::of(head, context);
    let framing = framing(&facts, context, &head.headers);
    let mut persistence = context.persistence;
    if facts.closes || framing == Framing::UntilClose {
        persistence = Persistence::Close;
    }
    let length = facts.length_to_write(&framing, context);
    out.reserve(ROOM + head.headers.len() * FIELD_ROOM);
    write_status_line(head, out);
    let mut is_length_written = false;
    for (name, value) in &head.headers {
        if *name == CONTENT_LENGTH {
            if is_length_written || length.is_none() || length != facts.length {
                continue;
            }
            is_length_written = true;
        } else if is_replaced(name, status) {
            continue;
        }
        let name = match context.spelling {
            Some(spelling) => spelling.name_of(name, value),
            None => name.as_str().as_bytes(),
        };
        push_field(name, value.as_bytes(), out);
    }
    if let Some(length) = length.filter(|_| !is_length_written) {
        out.extend_from_slice(b"content-length: ");
        write_decimal(length, out);
        out.extend_from_slice(b"\r\n");
    }
    if matches!(framing, Framing::Chunked { .. }) {
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    if !facts.has_date {
        push_field(b"date", date().as_bytes(), out);
    }
    match (persistence, context.version) {
        _ if status == StatusCode::SWITCHING_PROTOCOLS => {}
        (Persistence::Close, _) => out.extend_from_slice(b"connection: close\r\n"),
        (Persistence::KeepAlive, Version::HTTP_10) => {
            out.extend_from_slice(b"connection: keep-alive\r\n");
        }
        (Persistence::KeepAlive, _) => {}
    }
    out.extend_from_slice(b"\r\n");
    (framing, persistence)
}

/// Appends an interim response without fields, such as `100 Continue` (RFC 9110 §15.2).
pub fn write_interim(status: StatusCode, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    let words = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(words.as_bytes());
    out.extend_from_slice(b"\r\n\r\n");
}

fn write_status_line(head: &response::Parts, out: &mut Vec<u8>) {
    if head.status == StatusCode::OK && head.extensions.is_empty() {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(head.status.as_str().as_bytes());
    out.push(b' ');
    let own = head.extensions.get::<ReasonPhrase>();
    let words = own.map_or_else(
        || {
            head.status
                .canonical_reason()
                .unwrap_or_default()
                .as_bytes()
        },
        ReasonPhrase::as_bytes,
    );
    out.extend_from_slice(words);
    out.extend_from_slice(b"\r\n");
}

/// What the fields of a head say, found in one look through them.
struct Facts {
    status: StatusCode,
    length: Option<u64>,
    closes: bool,
    has_date: bool,
}

impl Facts {
    fn of(head: &response::Parts, context: &ResponseContext<'_>) -> Self {
        let mut facts = Self {
            status: head.status,
            length: None,
            closes: context.persistence == Persistence::Close,
            has_date: false,
        };
        for (name, value) in &head.headers {
            if *name == CONTENT_LENGTH {
                facts.length = super::syntax::decimal(value.as_bytes());
            } else if *name == DATE {
                facts.has_date = true;
            } else if *name == CONNECTION {
                facts.closes |= value.as_bytes().eq_ignore_ascii_case(b"close");
            }
        }
        facts
    }

    /// The one length that a response is written with, whatever its fields say.
    fn length_to_write(&self, framing: &Framing, context: &ResponseContext<'_>) -> Option<u64> {
        match framing {
            Framing::Length(length) => Some(*length),
            Framing::Chunked { .. } | Framing::UntilClose => None,
            // The length that a GET would have (RFC 9110 §8.6).
            Framing::None if context.is_head || self.status == StatusCode::NOT_MODIFIED => {
                self.length.filter(|_| !has_no_length(self.status))
            }
            Framing::None => (!has_no_length(self.status)).then_some(0),
        }
    }
}

/// RFC 9110 §8.6: responses that say nothing about a length.
fn has_no_length(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT
}

fn framing(facts: &Facts, context: &ResponseContext<'_>, headers: &HeaderMap) -> Framing {
    let status = facts.status;
    // RFC 9110 §6.4.1.
    if context.is_head || has_no_length(status) || status == StatusCode::NOT_MODIFIED {
        return Framing::None;
    }
    match context.body {
        ResponseBodySize::Empty => Framing::None,
        ResponseBodySize::Exactly(length) => Framing::Length(length),
        ResponseBodySize::Unknown if context.version == Version::HTTP_10 => Framing::UntilClose,
        ResponseBodySize::Unknown => {
            let names = context.accepts_trailers.then(|| trailer_names(headers));
            Framing::Chunked {
                trailers: names.unwrap_or_default(),
            }
        }
    }
}

/// Returns true for a field that is written anew: those about the connection, but for an upgrade's.
fn is_replaced(name: &HeaderName, status: StatusCode) -> bool {
    if *name == CONNECTION {
        return status != StatusCode::SWITCHING_PROTOCOLS;
    }
    *name == TRANSFER_ENCODING
}

fn write_decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    while at == digits.len() || number > 0 {
        at -= 1;
        digits[at] = b"0123456789"[(number % 10) as usize];
        number /= 10;
    }
    out.extend_from_slice(&digits[at..]);
}

/// For a status line and what is written beside the fields of a head.
const ROOM: usize = 128;

/// For one field; a longer one makes the buffer grow.
const FIELD_ROOM: usize = 48;

#[cfg(test)]
mod tests;
