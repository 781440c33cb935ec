//! The body of a message, out of the bytes of its connection (RFC 9112 §6 and §7).
//!
//! One decoder serves both directions: requests of clients and responses of endpoints. Data is cut
//! out of the buffer and not copied. Chunks are read as strictly as they are written: each line ends
//! with CRLF, a size consists of hexadecimal digits, and anything else ends the body with an error.

use bytes::{Buf as _, Bytes, BytesMut};
use http::HeaderMap;
use thiserror::Error;

use super::fields::FieldRanges;
use super::syntax::is_field_value;
use super::trailers::remove_forbidden_trailers;
use crate::limits::{CHUNK_LINES_BYTES_MAX, FIELDS_MAX, HEAD_BYTES_MAX};

/// How a body ends, and how much of it is still to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BodyDecoder {
    /// After this many more bytes; never 0.
    Length(u64),
    /// With the last chunk.
    Chunked(Chunked),
    /// With the connection; responses only.
    UntilClose,
    /// It has ended.
    Over,
}

/// A chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunked {
    place: ChunkPlace,
    /// Bytes that lines with sizes may still have, all of a body together.
    lines_left: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChunkPlace {
    Size,
    /// Within a chunk, of which this many bytes are left.
    Data(u64),
    /// Before the CRLF that ends a chunk.
    DataEnd,
    Trailers,
}

/// What a buffer holds of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// A piece of it; never empty.
    Data(Bytes),
    /// The fields after it, without forbidden ones; it has ended.
    Trailers(HeaderMap),
    /// Nothing without more bytes.
    Nothing,
    /// It has ended.
    End,
}

/// Why a body can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BodyError {
    /// A line before a chunk is not a size, or ends wrongly.
    #[error("invalid chunk size")]
    ChunkSize,
    /// The lines before chunks have more bytes than the bound.
    #[error("chunk extensions are too long")]
    ChunkExtensions,
    /// A chunk does not end where its size says.
    #[error("chunk has another length than its size says")]
    ChunkEnd,
    /// The lines after the last chunk are not fields, or too many.
    #[error("invalid trailer fields")]
    Trailers,
    /// The connection was closed within it.
    #[error("connection was closed within a body")]
    Closed,
}

impl BodyDecoder {
    /// A body of this many bytes.
    pub fn length(length: u64) -> Self {
        if length == 0 {
            Self::Over
        } else {
            Self::Length(length)
        }
    }

    /// A chunked body.
    pub fn chunked() -> Self {
        Self::Chunked(Chunked {
            place: ChunkPlace::Size,
            lines_left: CHUNK_LINES_BYTES_MAX,
        })
    }

    /// Returns true if the body has ended.
    pub fn is_over(&self) -> bool {
        *self == Self::Over
    }

    /// How many bytes are still to come, if that is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Over => Some(0),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }

    /// Takes what comes next out of `buffer`.
    ///
    /// # Errors
    ///
    /// Returns an error if the bytes are not a body; nothing more may be read then.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
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

    /// Notes that `count` bytes of a body of known length went another way; 0 means that the
    /// connection was closed.
    ///
    /// # Errors
    ///
    /// Returns [`BodyError::Closed`] for a body that has not ended.
    pub fn skip(&mut self, count: usize) -> Result<(), BodyError> {
        let Self::Length(left) = self else {
            return Ok(());
        };
        if count == 0 {
            return Err(BodyError::Closed);
        }
        *left = left.saturating_sub(count as u64);
        if *left == 0 {
            *self = Self::Over;
        }
        Ok(())
    }

    /// Notes that the connection was closed and nothing is left to decode.
    ///
    /// # Errors
    ///
    /// Returns [`BodyError::Closed`] for a body that does not end with its connection.
    pub fn close(&mut self) -> Result<Decoded, BodyError> {
        match self {
            Self::UntilClose | Self::Over => {
                *self = Self::Over;
                Ok(Decoded::End)
            }
            Self::Length(_) | Self::Chunked(_) => Err(BodyError::Closed),
        }
    }
}

impl Chunked {
    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
        loop {
            match self.place {
                ChunkPlace::Size => {
                    let Some(size) = self.size(buffer)? else {
                        return Ok(Decoded::Nothing);
                    };
                    self.place = if size == 0 {
                        ChunkPlace::Trailers
                    } else {
                        ChunkPlace::Data(size)
                    };
                }
                ChunkPlace::Data(_) if buffer.is_empty() => return Ok(Decoded::Nothing),
                ChunkPlace::Data(mut left) => {
                    let data = take(buffer, &mut left);
                    self.place = if left == 0 {
                        ChunkPlace::DataEnd
                    } else {
                        ChunkPlace::Data(left)
                    };
                    return Ok(Decoded::Data(data));
                }
                ChunkPlace::DataEnd => match &buffer[..] {
                    [b'\r', b'\n', ..] => {
                        buffer.advance(2);
                        self.place = ChunkPlace::Size;
                    }
                    [] | [b'\r'] => return Ok(Decoded::Nothing),
                    _ => return Err(BodyError::ChunkEnd),
                },
                ChunkPlace::Trailers => return trailers(buffer),
            }
        }
    }

    /// Takes the line before a chunk out of `buffer`, if all of it is there.
    fn size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, BodyError> {
        let Some(end) = memchr::memchr(b'\n', buffer) else {
            if buffer.len() > self.lines_left {
                return Err(BodyError::ChunkExtensions);
            }
            return Ok(None);
        };
        let line = buffer[..end].strip_suffix(b"\r");
        let size = line.and_then(chunk_size).ok_or(BodyError::ChunkSize)?;
        // The sizes themselves do not count.
        let extra = (end + 1).saturating_sub(SIZE_BYTES_MAX);
        let left = self.lines_left.checked_sub(extra);
        self.lines_left = left.ok_or(BodyError::ChunkExtensions)?;
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

/// RFC 9112 §7.1: hexadecimal digits, and an extension, which is dropped.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let count = line
        .iter()
        .take_while(|byte| byte.is_ascii_hexdigit())
        .count();
    let (digits, rest) = line.split_at_checked(count)?;
    // Old servers write spaces before the semicolon (RFC 9112 §7.1.1).
    let extension = rest.iter().find(|byte| !matches!(byte, b' ' | b'\t'));
    let is_extension = matches!(extension, None | Some(b';')) && is_field_value(rest);
    if !(1..=16).contains(&count) || !is_extension {
        return None;
    }
    let text = str::from_utf8(digits).ok()?;
    u64::from_str_radix(text, 16).ok()
}

/// Takes the fields after the last chunk out of `buffer`, if all of them are there.
fn trailers(buffer: &mut BytesMut) -> Result<Decoded, BodyError> {
    if buffer.starts_with(b"\r\n") {
        buffer.advance(2);
        return Ok(Decoded::End);
    }
    let mut ranges = FieldRanges::default();
    let found = ranges.read(buffer, 0, FIELDS_MAX, |_, _| Ok(()));
    let Some(found) = found.map_err(|_| BodyError::Trailers)? else {
        let is_bounded = buffer.len() <= HEAD_BYTES_MAX;
        return is_bounded
            .then_some(Decoded::Nothing)
            .ok_or(BodyError::Trailers);
    };
    let fields = buffer.split_to(found.end).freeze();
    let mut all = HeaderMap::new();
    let collected = ranges.collect(&fields, &mut all);
    collected.map_err(|_| BodyError::Trailers)?;
    remove_forbidden_trailers(&mut all);
    Ok(Decoded::Trailers(all))
}

/// A size, with its CRLF.
const SIZE_BYTES_MAX: usize = 16 + 2;

#[cfg(test)]
mod tests;
