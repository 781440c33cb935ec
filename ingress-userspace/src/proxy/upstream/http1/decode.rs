//! The body of a response over HTTP/1.1, out of the bytes of its connection (RFC 9112 §6 and §7).
//!
//! Pure: a buffer in, frames out. Data is cut out of the buffer and not copied. Chunks are read as
//! strictly as they are written: a line ends with CRLF, a size has hexadecimal digits alone, and
//! whatever else comes breaks the body off.

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;
use thiserror::Error;

use crate::proxy::runtime::limits::{CHUNK_LINES_BYTES_MAX, FIELDS_MAX, HEAD_BYTES_MAX};

/// How a body ends, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoder {
    /// After so many more bytes.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunked),
    /// With the connection.
    UntilClose,
    /// It has ended.
    Over,
}

/// A chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chunked {
    place: Place,
    /// Bytes that lines with sizes may still have, all of a body together.
    lines_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Size,
    /// Within a chunk, of which so much is left.
    Data(u64),
    /// Before the CRLF that ends a chunk.
    DataEnd,
    Trailers,
}

/// What a buffer holds of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decoded {
    Data(Bytes),
    Trailers(HeaderMap),
    /// Nothing without more bytes.
    Nothing,
    End,
}

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum BadBody {
    /// A line before a chunk is no size, or ends wrongly.
    #[error("chunk begins with no size")]
    ChunkSize,
    /// Lines before chunks have more than there is room for.
    #[error("chunk extensions are too long")]
    ChunkExtensions,
    /// A chunk does not end where it should.
    #[error("chunk has another length than it says")]
    ChunkEnd,
    /// What follows the last chunk are no fields, or too many.
    #[error("trailer fields can't be read")]
    Trailers,
    /// The connection was closed within it.
    #[error("connection was closed within a body")]
    Closed,
}

impl Decoder {
    pub(crate) fn length(length: u64) -> Self {
        if length == 0 {
            Self::Over
        } else {
            Self::Length(length)
        }
    }

    pub(crate) fn chunked() -> Self {
        Self::Chunked(Chunked {
            place: Place::Size,
            lines_left: CHUNK_LINES_BYTES_MAX,
        })
    }

    pub(crate) fn is_over(&self) -> bool {
        *self == Self::Over
    }

    /// How many bytes are still to come, if that is known.
    pub(crate) fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Over => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes out of `buffer` what comes next.
    pub(crate) fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadBody> {
        match self {
            Self::Over => Ok(Decoded::End),
            Self::Length(_) | Self::UntilClose if buffer.is_empty() => Ok(Decoded::Nothing),
            Self::UntilClose => Ok(Decoded::Data(buffer.split().freeze())),
            Self::Length(left) => {
                let data = take(buffer, left);
                if *left == 0 {
                    *self = Self::Over;
                }
                Ok(Decoded::Data(data))
            }
            Self::Chunked(chunked) => {
                let decoded = chunked.decode(buffer)?;
                if matches!(decoded, Decoded::End | Decoded::Trailers(_)) {
                    *self = Self::Over;
                }
                Ok(decoded)
            }
        }
    }

    /// So many bytes of a body whose length is known went another way; none means that the
    /// connection was closed.
    pub(crate) fn skip(&mut self, count: usize) -> Result<(), BadBody> {
        let Self::Length(left) = self else {
            return Ok(());
        };
        if count == 0 {
            return Err(BadBody::Closed);
        }
        *left = left.saturating_sub(count as u64);
        if *left == 0 {
            *self = Self::Over;
        }
        Ok(())
    }

    /// The connection was closed, and nothing is left to decode.
    pub(crate) fn close(&mut self) -> Result<Decoded, BadBody> {
        match self {
            Self::UntilClose | Self::Over => {
                *self = Self::Over;
                Ok(Decoded::End)
            }
            Self::Length(_) | Self::Chunked(_) => Err(BadBody::Closed),
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadBody> {
        loop {
            match self.place {
                Place::Size => {
                    let Some(size) = self.size(buffer)? else {
                        return Ok(Decoded::Nothing);
                    };
                    self.place = if size == 0 {
                        Place::Trailers
                    } else {
                        Place::Data(size)
                    };
                }
                Place::Data(_) if buffer.is_empty() => return Ok(Decoded::Nothing),
                Place::Data(mut left) => {
                    let data = take(buffer, &mut left);
                    self.place = if left == 0 {
                        Place::DataEnd
                    } else {
                        Place::Data(left)
                    };
                    return Ok(Decoded::Data(data));
                }
                Place::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.place = Place::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::Nothing),
                    _ => return Err(BadBody::ChunkEnd),
                },
                Place::Trailers => return trailers(buffer),
            }
        }
    }

    /// Takes out the line before a chunk, if all of it is there.
    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, BadBody> {
        let Some(end) = memchr(b'\n', buffer) else {
            if buffer.len() > self.lines_left {
                return Err(BadBody::ChunkExtensions);
            }
            return Ok(None);
        };
        let line = buffer[..end].strip_suffix(b"\r");
        let size = line.and_then(chunk_size).ok_or(BadBody::ChunkSize)?;
        // Sizes themselves are not what there may be too much of.
        let extra = (end + 1).saturating_sub(SIZE_BYTES_MAX);
        let left = self.lines_left.checked_sub(extra);
        self.lines_left = left.ok_or(BadBody::ChunkExtensions)?;
        buffer.advance(end + 1);
        Ok(Some(size))
    }
}

/// As much of a part of a body as is there.
fn take(buffer: &mut BytesMut, left: &mut u64) -> Bytes {
    let count = usize::try_from(*left).map_or(buffer.len(), |left| left.min(buffer.len()));
    *left -= count as u64;
    buffer.split_to(count).freeze()
}

/// RFC 9112 §7.1: hexadecimal digits, and an extension, which ends here.
pub(crate) fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit());
    let count = digits.count();
    let (digits, rest) = line.split_at_checked(count)?;
    // Spaces before the semicolon are for old servers (RFC 9112 §7.1.1).
    let is_extension = matches!(rest.trim_ascii_start().first(), None | Some(b';'));
    if !(1..=16).contains(&count) || !is_extension {
        return None;
    }
    let text = str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// Takes out the fields after the last chunk, if all of them are there.
fn trailers(buffer: &mut BytesMut) -> Result<Decoded, BadBody> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Decoded::End);
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    match httparse::parse_headers(buffer, &mut fields) {
        Ok(httparse::Status::Partial) if buffer.len() <= HEAD_BYTES_MAX => Ok(Decoded::Nothing),
        Ok(httparse::Status::Complete((length, fields))) => {
            let mut trailers = HeaderMap::with_capacity(fields.len());
            for field in fields {
                let name = HeaderName::from_bytes(field.name.as_bytes());
                let value = HeaderValue::from_bytes(field.value);
                let (Ok(name), Ok(value)) = (name, value) else {
                    return Err(BadBody::Trailers);
                };
                trailers.append(name, value);
            }
            buffer.advance(length);
            Ok(Decoded::Trailers(trailers))
        }
        Ok(httparse::Status::Partial) | Err(_) => Err(BadBody::Trailers),
    }
}

/// A size, with its CRLF.
const SIZE_BYTES_MAX: usize = 16 + 2;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All that comes out when the bytes come in these parts, and what is left of them.
    fn read(
        decoder: &mut Decoder,
        parts: &[&[u8]],
    ) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), BadBody> {
        let mut buffer = BytesMut::new();
        let (mut data, mut trailers) = (Vec::new(), HeaderMap::new());
        for part in parts {
            buffer.extend_from_slice(part);
            loop {
                match decoder.decode(&mut buffer)? {
                    Decoded::Data(more) => {
                        assert!(!more.is_empty());
                        data.extend_from_slice(&more);
                    }
                    Decoded::Trailers(fields) => trailers = fields,
                    Decoded::Nothing | Decoded::End => break,
                }
            }
        }
        Ok((data, trailers, buffer.to_vec()))
    }

    #[test]
    fn a_length_is_kept_to() {
        let mut decoder = Decoder::length(5);
        let (data, _, rest) = read(&mut decoder, &[b"he", b"llo, more"]).unwrap();
        assert_eq!((&data[..], &rest[..]), (&b"hello"[..], &b", more"[..]));
        assert!(decoder.is_over());
        assert!(Decoder::length(0).is_over());
        assert_eq!(Decoder::length(1).close(), Err(BadBody::Closed));
    }

    #[test]
    fn chunks_are_joined_and_trailers_follow() {
        let mut decoder = Decoder::chunked();
        let text = b"3;a=b\r\nabc\r\n0a \r\n0123456789\r\n0\r\nX-Sum: 1\r\n\r\nrest";
        let (data, trailers, rest) = read(&mut decoder, &[text]).unwrap();
        assert_eq!(data, b"abc0123456789");
        assert_eq!(trailers["x-sum"], "1");
        assert_eq!(rest, b"rest");
        assert!(decoder.is_over());
    }

    #[test]
    fn what_is_no_chunk_breaks_off() {
        for (text, fault) in [
            (&b"x\r\n"[..], BadBody::ChunkSize),
            (b"\r\n", BadBody::ChunkSize),
            (b"3\nabc\r\n", BadBody::ChunkSize),
            (b"+3\r\nabc\r\n", BadBody::ChunkSize),
            (b"3 3\r\nabc\r\n", BadBody::ChunkSize),
            (b"00000000000000001\r\n", BadBody::ChunkSize),
            (b"3\r\nabcd\r\n", BadBody::ChunkEnd),
            (b"3\r\nabc\n", BadBody::ChunkEnd),
            (b"0\r\n: x\r\n\r\n", BadBody::Trailers),
            (b"0\r\na b: x\r\n\r\n", BadBody::Trailers),
        ] {
            let outcome = read(&mut Decoder::chunked(), &[text]);
            assert_eq!(outcome.err(), Some(fault), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let chunk = format!("1;{}\r\na\r\n", "x".repeat(1_000));
        let chunks = chunk.repeat(CHUNK_LINES_BYTES_MAX / 1_000 + 1);
        let outcome = read(&mut Decoder::chunked(), &[chunks.as_bytes()]);
        assert_eq!(outcome.err(), Some(BadBody::ChunkExtensions));
        let line = vec![b'1'; CHUNK_LINES_BYTES_MAX + 1];
        let outcome = read(&mut Decoder::chunked(), &[&line]);
        assert_eq!(outcome.err(), Some(BadBody::ChunkExtensions));
        let fields = "x-field: value\r\n".repeat(HEAD_BYTES_MAX / 16 + 1);
        let outcome = read(&mut Decoder::chunked(), &[b"0\r\n", fields.as_bytes()]);
        assert_eq!(outcome.err(), Some(BadBody::Trailers));
        // A body of many chunks without extensions is nobody's attack.
        let chunks = "1\r\na\r\n".repeat(100_000) + "0\r\n\r\n";
        let (data, ..) = read(&mut Decoder::chunked(), &[chunks.as_bytes()]).unwrap();
        assert_eq!(data.len(), 100_000);
    }

    proptest! {
        #[test]
        fn how_bytes_come_makes_no_difference(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nX-A: b\r\n\r\n");
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts: Vec<_> = cuts.windows(2).map(|cut| &text[cut[0]..cut[1]]).collect();
            let mut decoder = Decoder::chunked();
            let (data, trailers, rest) = read(&mut decoder, &parts).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert_eq!(trailers.len(), 1);
            prop_assert!(rest.is_empty() && decoder.is_over());
        }

        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&mut Decoder::chunked(), &[&text]);
        }
    }
}
