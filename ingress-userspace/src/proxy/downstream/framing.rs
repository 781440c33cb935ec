//! Where heads and bodies are on an HTTP/1 connection, and what of that may not be passed over.
//!
//! hyper reads requests as leniently as RFC 9112 allows: it takes a bare LF for the end of a line,
//! and of `Content-Length` and `Transfer-Encoding` together it drops the one that does not count.
//! Servers that disagree about such a request are what request smuggling is made of, so it is
//! refused instead (RFC 9112 §6.1 and §11.2).
//!
//! Invariant: agrees with hyper on where a head begins for as long as hyper finds no fault. After
//! that it does not matter, because nothing more is read.

use memchr::memchr;

use crate::proxy::runtime::limits::CONNECTION_BUFFER_BYTES_MAX;

/// Follows what a client sends.
#[derive(Debug)]
pub(crate) struct Framing {
    place: Place,
    /// The beginning of a line that was not complete with the last read.
    line: Vec<u8>,
    head: Head,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    RequestLine {
        is_first: bool,
    },
    Field,
    /// Within a body, of which so much is left.
    Body(u64),
    ChunkSize,
    /// Within a chunk, of which so much is left, with the CRLF after it.
    Chunk(u64),
    Trailer,
    /// What follows may not be HTTP/1 any more.
    Elsewhere,
}

/// What the head at hand says about what comes after it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    is_chunked: bool,
    asks_upgrade: bool,
}

/// What is not to be passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offence {
    /// A line, by the index of its LF among the bytes read last.
    Line(usize),
    /// All of it: whoever begins like this speaks another protocol, and would not understand an
    /// answer. One that means HTTP/2 and gets its preface wrong must not have one (RFC 9113 §3.4).
    Everything,
}

/// Why a line is not to be passed on.
enum Objection {
    Ambiguous,
    NotHttp,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            place: Place::RequestLine { is_first: true },
            line: Vec::new(),
            head: Head::default(),
        }
    }
}

impl Framing {
    /// Whether the next byte would be the first of a request, or of an empty line before one.
    pub(crate) fn is_between(&self) -> bool {
        matches!(self.place, Place::RequestLine { .. }) && self.line.is_empty()
    }

    /// Keeps no room for lines that come in parts.
    pub(crate) fn settle(&mut self) {
        self.line.shrink_to_fit();
    }

    /// Looks at what was read next.
    pub(crate) fn offence(&mut self, mut bytes: &[u8]) -> Option<Offence> {
        let total = bytes.len();
        while !bytes.is_empty() {
            match self.place {
                Place::Body(left) => {
                    let left = skip(&mut bytes, left);
                    self.place = Place::Body(left);
                    if left == 0 {
                        self.place = Place::RequestLine { is_first: false };
                    }
                }
                Place::Chunk(left) => {
                    let left = skip(&mut bytes, left);
                    self.place = Place::Chunk(left);
                    if left == 0 {
                        self.place = Place::ChunkSize;
                    }
                }
                Place::Elsewhere => return None,
                Place::RequestLine { .. } | Place::Field | Place::ChunkSize | Place::Trailer => {
                    let Some(end) = memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return None;
                    };
                    match self.take_line(&bytes[..end]) {
                        Ok(()) => {}
                        Err(Objection::Ambiguous) => {
                            return Some(Offence::Line(total - bytes.len() + end));
                        }
                        Err(Objection::NotHttp) => return Some(Offence::Everything),
                    }
                    bytes = &bytes[end + 1..];
                }
            }
        }
        None
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.line.extend_from_slice(bytes);
        if self.line.len() > CONNECTION_BUFFER_BYTES_MAX {
            // hyper has refused it by now, for its size.
            self.line = Vec::new();
            self.place = Place::Elsewhere;
        }
    }

    fn take_line(&mut self, end: &[u8]) -> Result<(), Objection> {
        if self.line.is_empty() {
            return self.read_line(end);
        }
        let mut line = std::mem::take(&mut self.line);
        line.extend_from_slice(end);
        self.read_line(&line)
    }

    fn read_line(&mut self, line: &[u8]) -> Result<(), Objection> {
        let line = line.strip_suffix(b"\r").ok_or(Objection::Ambiguous)?;
        self.place = match self.place {
            Place::RequestLine { is_first: true } if line == b"PRI * HTTP/2.0" => Place::Elsewhere,
            Place::RequestLine { is_first: true } if is_other_protocol(line) => {
                return Err(Objection::NotHttp);
            }
            // Empty lines before a request are to be ignored (RFC 9112 §2.2).
            Place::RequestLine { .. } if line.is_empty() => self.place,
            Place::RequestLine { .. } => Place::Field,
            Place::Field if line.is_empty() => std::mem::take(&mut self.head).body(),
            Place::Field => {
                self.head.read(line)?;
                Place::Field
            }
            Place::ChunkSize => match chunk_size(line).ok_or(Objection::Ambiguous)? {
                0 => Place::Trailer,
                size => Place::Chunk(size.checked_add(2).ok_or(Objection::Ambiguous)?),
            },
            Place::Trailer if line.is_empty() => Place::RequestLine { is_first: false },
            Place::Trailer => Place::Trailer,
            place @ (Place::Body(_) | Place::Chunk(_) | Place::Elsewhere) => place,
        };
        Ok(())
    }
}

impl Head {
    /// Looks at a field. Nearly all of them are told apart by their length or first letter.
    fn read(&mut self, line: &[u8]) -> Result<(), Objection> {
        match line {
            [b'c' | b'C', ..] => {
                let Some(value) = value(line, b"content-length") else {
                    return Ok(());
                };
                let is_sole = self.length.is_none() && !self.is_chunked;
                let length = digits(value, 10).filter(|_| is_sole);
                self.length = Some(length.ok_or(Objection::Ambiguous)?);
            }
            [b't' | b'T', ..] => {
                let Some(value) = value(line, b"transfer-encoding") else {
                    return Ok(());
                };
                let is_sole = self.length.is_none() && !self.is_chunked;
                if !is_sole || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Objection::Ambiguous);
                }
                self.is_chunked = true;
            }
            [b'u' | b'U', ..] => self.asks_upgrade |= value(line, b"upgrade").is_some(),
            _ => {}
        }
        Ok(())
    }

    fn body(self) -> Place {
        match self {
            // Its connection ends with its answer, if it does not become a tunnel.
            Self {
                asks_upgrade: true, ..
            } => Place::Elsewhere,
            Self {
                is_chunked: true, ..
            } => Place::ChunkSize,
            Self {
                length: Some(length @ 1..),
                ..
            } => Place::Body(length),
            Self { .. } => Place::RequestLine { is_first: false },
        }
    }
}

/// Whether a line of at least three words ends with no version of HTTP.
fn is_other_protocol(line: &[u8]) -> bool {
    let mut words = line.rsplit(|byte| *byte == b' ');
    let is_version = words.next().is_some_and(|word| word.starts_with(b"HTTP/"));
    !is_version && words.count() >= 2
}

/// Goes on by `count` bytes, or as far as there are some. Returns how many are left to go.
fn skip(bytes: &mut &[u8], count: u64) -> u64 {
    let taken = usize::try_from(count).map_or(bytes.len(), |count| count.min(bytes.len()));
    *bytes = &bytes[taken..];
    count - taken as u64
}

/// The value of a field, if it has this name.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

/// The size of a chunk, without its extensions (RFC 9112 §7.1.1).
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| b"; \t".contains(byte));
    digits(&line[..end.unwrap_or(line.len())], 16)
}

/// Digits and nothing else.
fn digits(text: &[u8], radix: u32) -> Option<u64> {
    let digit = |byte: &u8| char::from(*byte).to_digit(radix).map(u64::from);
    let add = |number: u64, byte| {
        let number = number.checked_mul(u64::from(radix))?;
        number.checked_add(digit(byte)?)
    };
    let mut bytes = text.iter();
    let first = digit(bytes.next()?)?;
    bytes.try_fold(first, add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offence(text: &str) -> Option<usize> {
        let whole = Framing::default()
            .offence(text.as_bytes())
            .map(|offence| match offence {
                Offence::Line(end) => end,
                Offence::Everything => 0,
            });
        let mut framing = Framing::default();
        let one_by_one = (0..text.len())
            .find(|index| framing.offence(&text.as_bytes()[*index..=*index]).is_some());
        assert_eq!(whole, one_by_one, "{text}");
        whole
    }

    const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    #[test]
    fn bodies_are_passed_over_and_the_head_after_them_is_looked_at() {
        for request in [
            GET,
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\n\n\n\n\n",
            "POST / HTTP/1.1\r\ncontent-length:0\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\nA;x=y\r\n\n\n\n\n\n\n\n\n\n\n\r\n0\r\nX: y\r\n\r\n",
        ] {
            assert_eq!(offence(&request.repeat(3)), None, "{request}");
            let next = format!("{request}GET / HTTP/1.1\r\nA: b\n");
            assert_eq!(offence(&next), Some(next.len() - 1), "{request}");
        }
    }

    #[test]
    fn what_servers_disagree_about_is_an_offence() {
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n",
            "Content-Length: 1\r\nContent-Length: 1\r\n",
            "Content-Length: +1\r\n",
            "Content-Length:\r\n",
            "Content-Length: 18446744073709551616\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: identity, chunked\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\x0b\r\n",
            "A: b\n",
        ] {
            let text = format!("POST / HTTP/1.1\r\n{fields}\r\n");
            assert_eq!(offence(&text), Some(text.len() - 3), "{fields}");
        }
        assert_eq!(offence("GET / HTTP/1.1\n"), Some(14));
        let chunk = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\n";
        assert_eq!(offence(chunk), Some(chunk.len() - 1));
    }

    #[test]
    fn other_protocols_are_left_alone() {
        let upgrade = "GET / HTTP/1.1\r\nUpgrade: x\r\n\r\n\n\n\n";
        assert_eq!(offence(upgrade), None);
        let wrong = Framing::default().offence(b"INVALID CONNECTION PREFACE\r\n\r\n");
        assert_eq!(wrong, Some(Offence::Everything));
        assert_eq!(offence("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n"), None);
        let late = format!("{GET}PRI * HTTP/2.0\r\n\r\n\n");
        assert_eq!(offence(&late), Some(late.len() - 1));
    }
}
